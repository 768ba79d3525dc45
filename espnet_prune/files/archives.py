"""Kaldi's archives: many audio files in one file, each found by the byte at which it begins.

An archive has, again and again, a name, a blank and the bytes of an audio file. Kaldi writes WAV as
it is. ESPnet writes, through kaldiio, any format behind the word AUDIO and the number of bytes.
What else kaldiio knows (matrices, pickled objects) is no audio, and is not read.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

_PLACE = re.compile(r"(.+):(\d{1,18})", re.DOTALL)
# From there on a WAV file's number of bytes stands for "not known".
_UNKNOWN = 0x7FFF0000
# Behind AUDIO: a byte that says how many bytes the number of bytes has, and these.
_WIDEST = 8


def place_of(path: str | Path) -> tuple[Path, int | None]:
    """The file on disk that holds what a path names, and the byte in it at which that begins.

    ``ARCHIVE:BYTE`` is a place in an archive, unless a file has this very name; all other paths are
    files of their own, for which the byte is None.
    """
    found = _PLACE.fullmatch(os.fspath(path))
    if found is None or os.path.isfile(path):
        return Path(path), None
    return Path(found[1]), int(found[2])


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[BinaryIO, int]]:
    """What a path names (see `place_of`), as an open file of its own, and its number of bytes.

    Of an archive no more is read than what is read from this file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the archive ends before, or no audio begins there.
    """
    place, begin = place_of(path)
    if not os.path.isfile(place):
        what = "no such file" if begin is None else f"there is no archive {place}"
        raise FileNotFoundError(f"{path}: {what}")
    with place.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if begin is None:
            yield file, size
            return
        try:
            begin, length = _entry(file, begin, size)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; make wav.scp and the archive again") from None
        yield cast(BinaryIO, _Part(file, begin, length)), length


def size_of(path: str | Path) -> int:
    """Number of bytes of what a path names, errors as of `opened`."""
    with opened(path) as (_, size):
        return size


def entries(archive: str | Path) -> Iterator[tuple[str, int]]:
    """The names in an archive, and the bytes at which their audio begins (see `opened`).

    Raises:
        ValueError: it ends early, or holds something else.
    """
    with Path(archive).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        at = 0
        while at < size:
            file.seek(at)
            name, blank, _ = file.read(4096).partition(b" ")
            if not blank:
                raise ValueError(f"{archive}: no name at byte {at}; make the archive again")
            begin = at + len(name) + 1
            try:
                start, length = _entry(file, begin, size)
                yield name.decode(), begin
            except ValueError as error:
                raise ValueError(f"{archive}:{begin}: {error}; make the archive again") from None
            at = start + length


def _entry(file: BinaryIO, begin: int, size: int) -> tuple[int, int]:
    """First byte and number of bytes of the audio file that stands at a byte of an archive."""
    if begin >= size:
        raise ValueError(f"the archive has {size} bytes and ends before byte {begin}")
    file.seek(begin)
    head = file.read(6 + _WIDEST)
    if head.startswith(b"AUDIO") and len(head) > 6 and 1 <= head[5] <= _WIDEST:
        start = begin + 6 + head[5]
        length = int.from_bytes(head[6 : 6 + head[5]], "little")
    elif head.startswith(b"RIFF") and len(head) >= 8:
        start, length = begin, 8 + int.from_bytes(head[4:8], "little")
        if not 8 < length < _UNKNOWN:
            text = "does not say how long it is, as if written to a pipe"
            raise ValueError(f"the WAV at this byte of the archive {text}")
    else:
        raise ValueError(f"no audio begins at this byte of the archive, but {head[:5]!r}")
    if start + length > size:
        there = max(0, size - start)
        raise ValueError(f"the archive ends early, it has {there} of {length} bytes of this audio")
    return start, length


class _Part(io.RawIOBase):
    """So many bytes of an open file from one of them on, as a file of its own to read."""

    def __init__(self, file: BinaryIO, begin: int, length: int):
        self._file, self._begin, self._length, self._at = file, begin, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer) -> int:
        self._file.seek(self._begin + self._at)
        data = self._file.read(max(0, min(len(buffer), self._length - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
