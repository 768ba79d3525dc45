"""The one door that says whether a result is still that of its inputs.

An input is a `Path`, whose content counts, or anything else, which counts as it is printed. Of a
list of audio (*.scp) the files that it names count, too. Standard library only, so that recipes can
ask at every stage.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from espnet_prune.files.archives import place_of
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

    Of a list of audio the files that it names count, too, see `_audio`.
    """
    words = (_content(each) if isinstance(each, Path) else each for each in inputs)
    return hashlib.sha256("".join(f"{word}\n" for word in words).encode()).hexdigest()


def named(words: Iterable[str]) -> Iterator[Path | str]:
    """The inputs that a recipe names: a file, a directory of a model (its configs and weights),
    data of a training as ESPnet takes them (FILE,name,type), or anything else, which is a word."""
    for word in words:  # os.path takes words that are too long for a name
        path, *rest = word.split(",")
        if os.path.isfile(word):
            yield Path(word)
        elif len(rest) == 2 and os.path.isfile(path):
            yield Path(path)
            yield from rest
        elif os.path.isfile(os.path.join(word, "config.json")):
            yield word
            for pattern in ("config.json", "*processor_config.json", "*.safetensors", "*.bin"):
                yield from sorted(Path(word).glob(pattern))
        else:
            yield word


def _content(path: Path) -> str:
    if path.suffix != ".scp":
        return sha256_of(path)
    values = [line.partition(" ")[2].strip() for line in read_lines(path)]
    return " ".join([sha256_of(path), digest(map(_audio, values))])


def _audio(value: str) -> str:
    """What tells an audio file from another one under its name, without all of it being read. A
    FLAC file has a checksum of its samples, so that one that is written anew is still the same."""
    if value.endswith("|"):  # a command; its last word is what it reads, as a rule
        value = value.rstrip("| ").rpartition(" ")[2]
    path, begin = place_of(value)
    if not os.path.isfile(path):
        return "no file"
    with path.open("rb") as file:
        file.seek(begin or 0)
        head = file.read(64)
    size, changed = path.stat().st_size, path.stat().st_mtime_ns
    at = head.find(b"fLaC\0", 0, 20)  # behind a few bytes in an archive
    checksum = head[at + 26 : at + 42] if at >= 0 else b""
    return f"{size} {checksum.hex() if any(checksum) else changed}"


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
    """Path, size and time of the last change of a file, for inputs too large to be read again; for
    a place in an archive those of the archive."""
    stat = place_of(path)[0].stat()
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

    A directory without visible content takes the inputs as its own; one with results of other
    inputs, or of nobody knows what, is a ValueError.
    """
    directory = Path(directory)
    note, now = directory / INPUTS, digest(inputs)
    filled = directory.is_dir() and any(not p.name.startswith(".") for p in directory.iterdir())
    if filled and (not note.is_file() or read_text(note).strip() != now):
        made = "was made from other data, models or options"
        if not note.is_file():
            made = f"holds files, but no note ({INPUTS}) of what they were made from"
        raise ValueError(
            f"{directory} {made}: remove it, or name another place (--expdir, a tag, …; see --help)"
        )
    if not filled or not note.is_file():
        write_text(note, now + "\n")
