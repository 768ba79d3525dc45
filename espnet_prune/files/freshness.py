"""The one door that says whether a result is still that of its inputs.

An input is a `Path`, whose content counts, or anything else, which counts as it is printed.
Standard library only, so that recipes can ask at every stage.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from espnet_prune.files.reading import read_lines, read_record, read_text
from espnet_prune.files.writing import write_json, write_text

#: File in a directory of results that holds the digest of what it was made from.
INPUTS = ".inputs"
#: File in a directory of many results that holds such a digest of each.
MADE_OF = ".made_of.json"


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's content as hexadecimal digits."""
    whole = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()


def digest(inputs: Iterable[object]) -> str:
    """SHA-256 of inputs in their order, files by content, as hexadecimal digits.

    Of a wav.scp the audio that it names counts, too, by size and time.
    """
    words: list[object] = []
    for each in inputs:
        words.append(sha256_of(each) if isinstance(each, Path) else each)
        if isinstance(each, Path) and each.name == "wav.scp":
            words += _stamps_of_audio(each)
    return hashlib.sha256("".join(f"{word}\n" for word in words).encode()).hexdigest()


def _stamps_of_audio(scp: Path) -> list[str]:
    values = (line.partition(" ")[2].strip() for line in read_lines(scp))
    files = (
        value.rstrip("| ").rpartition(" ")[2] if value[-1:] == "|" else value for value in values
    )
    return [stamp(file) for file in files if os.path.isfile(file)]


@functools.cache
def code_of(*places: str) -> str:
    """Digest of what computes a result: files or folders of this package by content, and versions
    of the libraries that compute for them."""
    root, words = Path(__file__).parents[1], []
    for place in places:
        found = root / place
        files = [found] if found.is_file() else sorted(found.rglob("*.py"))
        words += [f"{file.relative_to(root)} {sha256_of(file)}" for file in files]
        assert files, place
    for library in ("numpy", "soundfile", "torch", "torchaudio", "transformers"):
        with suppress(importlib.metadata.PackageNotFoundError):
            words.append(f"{library} {importlib.metadata.version(library)}")
    return digest(words)[:16]


def stamp(path: str | Path) -> str:
    """Path, size and time of the last change of a file, for inputs too large to be read again."""
    stat = Path(path).stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def drop_stale(directory: Path, made_of: Mapping[str, str]) -> bool:
    """Remove the files that are made of something else, and note what the next ones are made of.

    What is left under one of the names afterwards is made of what it has to be: a run that was
    stopped can go on. Files that this function has not been told of are never removed, but where
    one has to be made.

    Args:
        directory: made if absent; gets the file `MADE_OF`.
        made_of: path in the directory -> `digest` of the file's inputs and options.
    Returns: whether anything is other than before.
    """
    note = directory / MADE_OF
    before = read_record(note) if note.is_file() else {}
    if before == made_of:
        return False
    for name in before.keys() | made_of.keys():
        if before.get(name) != made_of.get(name):
            (directory / name).unlink(missing_ok=True)
    write_json(note, dict(made_of))
    return True


def claim(directory: str | Path, inputs: Iterable[object]) -> None:
    """Note in a directory what it is made from, or check that it is made from the same.

    A directory without visible content, or without a note, takes the inputs as its own; one with
    results of other inputs is a ValueError.
    """
    directory = Path(directory)
    note, now = directory / INPUTS, digest(inputs)
    filled = directory.is_dir() and any(not p.name.startswith(".") for p in directory.iterdir())
    if filled and note.is_file() and read_text(note).strip() != now:
        raise ValueError(
            f"{directory} was made from other data, models or options: remove it, or name another "
            "place (--expdir, a tag, …; see --help)"
        )
    write_text(note, now + "\n")
