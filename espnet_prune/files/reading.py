"""The one door through which text that a user or another step wrote is read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


def read_record(path: str | Path, keys: Iterable[str] = ()) -> dict:
    """A JSON object that another step has written.

    Args:
        keys: what it has to have.
    Raises:
        FileNotFoundError: no such file.
        ValueError: no JSON object, or one without a key.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: not a JSON object")
    for key in keys:
        if key not in found:
            raise ValueError(f"{path}: has no '{key}'; make it again")
    return found
