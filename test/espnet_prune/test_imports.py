"""The public names are there, and cost nothing before they are used."""

import subprocess
import sys

import pytest

import espnet_prune

HEAVY = "torch", "transformers", "espnet", "espnet2", "numpy", "matplotlib"


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, espnet_prune\n"
        "assert 'prune' in dir(espnet_prune) and espnet_prune.__version__\n"
        f"found = [name for name in {HEAVY} if name in sys.modules]\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", espnet_prune.__all__)
def test_every_public_name_is_there(name):
    assert callable(getattr(espnet_prune, name))
    assert getattr(espnet_prune, name).__doc__


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'prun'"):
        _ = espnet_prune.prun
