"""The one door through which text that a user or another step wrote is read.

A file that is missing raises FileNotFoundError, and one that is not what it has to be ValueError.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

#: bytes that are taken out of a file named .gz at most: a small one can hold a thousand times more
MOST_UNPACKED = 1 << 28


def read_text(path: str | Path, hint: str = "") -> str:
    r"""The text of a UTF-8 file, with \n between lines and without a byte order mark.

    A file named .gz is unpacked. `hint` says what to do when the file is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file{hint and '; '}{hint}")
    if path.suffix == ".gz":
        try:
            with gzip.open(path) as packed:
                data = packed.read(MOST_UNPACKED + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not gzipped: {error}") from None
        if len(data) > MOST_UNPACKED:
            raise ValueError(f"{path}: has more than {MOST_UNPACKED >> 20} MB in it; unpack it")
    else:
        data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"not UTF-8 text (byte {error.start}); convert it (line {line})"
        raise ValueError(f"{path}: {reason}") from None
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: str | Path, hint: str = "") -> list[str]:
    """The lines of a text file, see `read_text`; only line breaks end a line."""
    lines = read_text(path, hint).split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def read_rows(path: str | Path, hint: str = "") -> list[dict]:
    """The JSON objects of a file that has one a line; `hint` as for `read_text`."""
    lines = enumerate(read_lines(path, hint), 1)
    return [_object(f"{path}: line {number}", line) for number, line in lines]


def parse_json(text: str | bytes) -> Any:
    """What a text of JSON says (ValueError: it is not JSON, is nested too deeply, or has half a
    character, a surrogate, which no file can hold)."""
    try:
        found = json.loads(text)
        if (b"\\u" if isinstance(text, bytes) else "\\u") in text:
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("not JSON that can be read: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    return found


def read_record(path: str | Path, keys: Iterable[str] = (), hint: str = "") -> dict:
    """A JSON object with these keys that another step has written; `hint` as for `read_text`."""
    found = _object(str(path), read_text(path, hint))
    for key in keys:
        if key not in found:
            raise ValueError(f"{path}: has no '{key}'; make it again")
    return found


def read_config(path: str | Path) -> dict[str, Any]:
    """The options of a YAML file, a mapping of names to values; none for an empty file."""
    import yaml

    text = read_text(path)
    try:
        found = yaml.safe_load(text)
    except RecursionError:
        raise ValueError(f"{path}: not YAML that can be read: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict | None):
        raise ValueError(f"{path}: not a YAML mapping")
    return found or {}


def package_table(package: str, name: str) -> Any:
    """A YAML file that a package of ours comes with."""
    import yaml

    return yaml.safe_load(resources.files(package).joinpath(name).read_text(encoding="utf-8"))


def _object(name: str, text: str) -> dict:
    try:
        found = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{name}: not a JSON object")
    return found
