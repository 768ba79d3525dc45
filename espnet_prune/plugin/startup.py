"""What makes ESPnet start, and start faster, done before its modules are imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType


def import_later(name: str) -> None:
    """Have `import name` put off the work until a name of the module is used.

    Nothing happens when the module is imported already or is not there. Unlike
    `importlib.util.LazyLoader`, looking at `__file__` and the like, as `inspect` does with all
    modules, does not start the work.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return
    placeholder = ModuleType(name)
    placeholder.__spec__ = spec

    def load(attribute: str):
        if attribute.startswith("__"):
            raise AttributeError(f"module '{name}' has no attribute '{attribute}'")
        if sys.modules.get(name) is placeholder:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    placeholder.__getattr__ = load
    sys.modules[name] = placeholder


def faster() -> None:
    """Put off what ESPnet imports in every command and uses in few: English phonemes (4 s, and
    attempts to download a dictionary)."""
    import_later("g2p_en")


def provide_editdistance() -> None:
    """Let ESPnet 202611 count errors where `editdistance` is not installed.

    It imports the package without requiring it, and there is no wheel for Python 3.13; `rapidfuzz`
    (which `jiwer` brings) computes the same distance of two sequences.
    """
    if "editdistance" not in sys.modules and importlib.util.find_spec("editdistance") is None:
        from rapidfuzz.distance import Levenshtein

        module = ModuleType("editdistance")
        module.eval = Levenshtein.distance
        sys.modules["editdistance"] = module
