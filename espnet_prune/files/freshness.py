"""The one door that says whether a result is still that of its inputs.

An input is a file, which counts by its content, or anything else, which counts as the word it is.
Standard library only, so that recipes can ask at every stage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from espnet_prune.files.writing import write_text

#: File in a directory of results that holds the digest of what it was made from.
INPUTS = ".inputs"


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's content as hexadecimal digits."""
    whole = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()


def digest(inputs: Iterable[object]) -> str:
    """SHA-256 of inputs in their order, files by content, as hexadecimal digits."""
    whole = hashlib.sha256()
    for each in inputs:
        is_file = isinstance(each, str | Path) and Path(each).is_file()
        whole.update(f"{sha256_of(each) if is_file else each}\n".encode())
    return whole.hexdigest()


def claim(directory: str | Path, inputs: Iterable[object]) -> None:
    """Note in a directory what it is made from, or check that it is made from the same.

    A directory without visible content, or without a note, takes the inputs as its own.

    Raises:
        ValueError: the directory holds results of other inputs.
    """
    directory = Path(directory)
    note, now = directory / INPUTS, digest(inputs)
    filled = directory.is_dir() and any(not p.name.startswith(".") for p in directory.iterdir())
    if filled and note.is_file() and note.read_text(encoding="utf-8").strip() != now:
        raise ValueError(
            f"{directory} was made from other data, models or options: remove it, or name another "
            "place (--expdir, a tag, …; see --help)"
        )
    write_text(note, now + "\n")
