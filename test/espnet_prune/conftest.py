import pytest

from test.espnet_prune.tiny import saved


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """family -> directory of a small random model."""
    layouts = ("wav2vec2-base", "hubert-large", "wavlm-base", "whisper")
    return {
        layout.partition("-")[0]: str(saved(layout, tmp_path_factory.mktemp(layout)))
        for layout in layouts
    }
