"""The one door through which files are written: whole, or not at all.

Standard library only, as the installer comes through here with a bare python3.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_file(path: str | Path, write: Callable[[Path], object], sync: bool = True) -> None:
    """Have a file written under a temporary name, then rename it into place.

    Whoever reads `path` finds the old file or the whole new one, also after a crash. The OSError of
    a file that cannot be written names `path`.

    Args:
        path: file to write; its folder is made.
        write: writes the file of the temporary name that it is given, which is in the same folder
            and has the same suffix.
        sync: wait until the disk has the content, some 7 ms a file; without it a power cut may
            leave a file of the right name with no or half the content.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        if sync:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None:  # numpy's, for a disk that is full
            raise OSError(f"{path}: {error}") from error
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file of bytes, whole or not at all."""
    write_file(path, lambda temporary: temporary.write_bytes(data))


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8), whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file with an indent of two, whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")
