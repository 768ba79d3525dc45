"""The one door through which files are written: whole, or not at all.

Standard library only, as the installer comes through here with a bare python3.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_HOST = re.sub(r"[^A-Za-z0-9_]", "_", platform.node())[:40]
#: A temporary file of this machine; the group is the process that writes it.
_TEMPORARY = re.compile(rf"\..+\.{_HOST}-(\d+)\.tmp(\.[^.]*)?")
#: Folders that this process has looked through for temporary files of killed ones.
_swept: set[Path] = set()
_PROBE = b"\0" * (1 << 20)


def write_file(path: str | Path, write: Callable[[Path], object], sync: bool = True) -> None:
    """Have a file written under a temporary name, then rename it into place.

    Whoever reads `path` finds the old file or the whole new one, also after a crash. The OSError of
    a file that cannot be written names `path` and the reason, whatever `write` makes of a full
    disk. Temporary files that killed processes of this machine left in the folder are removed.

    Args:
        path: file to write; its folder is made.
        write: writes the file of the temporary name that it is given, which is in the same folder
            and has the same suffix.
        sync: wait until the disk has content and name, some 10 ms a file; without it a power cut
            may leave a file of the right name with no or half the content.
    """
    path = Path(path)
    temporary = path.with_name(_temporary_name(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in _swept:
            _swept.add(path.parent)
            remove_leftovers(path.parent)
        try:
            write(temporary)
        except Exception as error:
            if not isinstance(error, OSError) or error.errno is None:
                _probe(temporary)
            raise
        if sync:
            _sync(temporary)
        os.replace(temporary, path)
        if sync:
            _sync(path.parent)
    except OSError as error:
        if error.errno is None:  # numpy's, for a disk that is full
            raise OSError(f"{path}: {error}") from error
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files that processes of this machine were killed over.

    Those of other machines stay, as nobody here can tell whether they are being written.
    """
    for entry in os.scandir(folder):
        found = _TEMPORARY.fullmatch(entry.name)
        if found and not alive(int(found[1])):
            with suppress(OSError):
                os.unlink(entry.path)


def alive(process: int) -> bool:
    """Whether this machine has a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's, or a number that says nothing
        pass
    return True


def _temporary_name(path: Path) -> str:
    stem = path.stem
    if len(os.fsencode(stem)) > 120:  # a name may have 255 bytes
        stem = hashlib.sha256(os.fsencode(stem)).hexdigest()
    return f".{stem}.{_HOST}-{os.getpid()}.tmp{path.suffix}"


def _sync(path: Path) -> None:
    """Wait until the disk has the content of a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems cannot do this for a folder
            raise
    finally:
        os.close(descriptor)


def _probe(temporary: Path) -> None:
    """The OSError that keeps files from being written here, if any: libraries have errors of their
    own for a full disk, which do not tell of it. What they wrote is still there, and fills it."""
    probe = temporary.with_name(f".probe.{_HOST}-{os.getpid()}.tmp")
    try:
        with probe.open("wb") as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file of bytes, whole or not at all."""
    write_file(path, lambda temporary: temporary.write_bytes(data))


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8), whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file with an indent of two, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")
