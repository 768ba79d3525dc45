import os

# oneDNN's bfloat16 convolution on AMX is wrong for few channels with long kernels (12 channels,
# kernel 16: error over 100% in torch 2.12), which only tiny test models have.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

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
