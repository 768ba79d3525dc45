"""The one door for files that grow line by line, so that a stopped run goes on where it was.

Each line is JSON, and the first one is a header: what the others depend on. What follows the last
whole line was being written when a run was stopped, and does not count.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from espnet_prune.files.reading import parse_json
from espnet_prune.files.writing import write_text


def read_grown(path: Path) -> tuple[Any, list[Any]] | None:
    """Header and rows; None without a whole header (ValueError: a whole line is not JSON)."""
    whole = path.read_bytes().rpartition(b"\n")[0] if path.is_file() else b""
    if not whole:
        return None
    try:
        header, *rows = map(parse_json, whole.split(b"\n"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); remove it") from None
    return header, rows


def go_on(path: Path, header: Any) -> list[Any]:
    """Rows of a file with this header, ready for more; any other file is started anew."""
    found = read_grown(path)
    if found is None or found[0] != header:
        write_text(path, json.dumps(header) + "\n")
        return []
    with _naming(path):
        os.truncate(path, path.read_bytes().rindex(b"\n") + 1)
    return found[1]


def grow(path: Path, rows: Iterable[Any]) -> None:
    """Append rows; they are on disk when this returns. An OSError names the file."""
    with _naming(path), path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error
