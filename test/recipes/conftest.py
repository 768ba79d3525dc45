"""What tests of recipes share."""

from pathlib import Path

import pytest

from espnet_prune.launch.warm_python import serving

ROOT = Path(__file__).resolve().parents[2]
WARM = ROOT / "espnet_prune" / "launch" / "warm_python.py"


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory):
    """Options of a recipe; with them, every command of its Python starts at once."""
    with serving(tmp_path_factory.mktemp("warm"), ROOT):
        yield ["--python", str(WARM)]
