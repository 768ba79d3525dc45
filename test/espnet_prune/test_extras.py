"""espnet_prune.extras: one clear error where a package of an extra is missing."""

import math
import re
from importlib.metadata import metadata
from pathlib import Path

import pytest

from espnet_prune.extras import MissingExtraError, load_extra

PACKAGE = Path(__file__).resolve().parents[2] / "espnet_prune"


def test_a_module_that_is_there():
    assert load_extra("math", "sir") is math


def test_a_package_that_is_missing_names_its_extra():
    with pytest.raises(MissingExtraError) as raised:
        load_extra("no_such_package.part", "sir")
    assert str(raised.value) == (
        'no_such_package is not installed; install it with: pip install "espnet_prune[sir]"'
    )


def test_what_an_installed_package_lacks_is_not_blamed_on_the_extra(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import something_else_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_else_that_is_missing"):
        load_extra("half_there", "sir")


def test_every_extra_that_is_named_exists():
    provided = set(metadata("espnet_prune").get_all("Provides-Extra"))
    named = {
        extra
        for file in PACKAGE.rglob("*.py")
        for extra in re.findall(r'load_extra\("[\w.]+", "([\w-]+)"\)', file.read_text("utf-8"))
    }
    assert named <= provided
