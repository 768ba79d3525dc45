"""The one door through which files of tensors are read: nothing in them runs, nothing grows.

Every error is a ValueError of one line that begins with the file.
"""

from __future__ import annotations

import datetime
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

#: what reading a damaged or hostile file raises, of torch and of Python's unpickling
DAMAGED = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError,
    AssertionError, MemoryError, ArithmeticError, pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip
_REFUSED = re.compile(r"GLOBAL ([\w.]+)")


class RefusedObjectError(ValueError):
    """A file has an object of a class that is not made; `name` is module and class."""

    def __init__(self, path: Path, name: str):
        super().__init__(f"{path}: holds a '{name}' and is not opened: save plain tensors")
        self.name = name


def load_pickled(
    path: str | Path,
    allowed: Sequence[type | tuple[Callable, str]] = (),
    mmap: bool = False,
    map_location: Any = "cpu",
) -> Any:
    """What `torch.save` wrote: tensors, plain containers and values, and what is `allowed`.

    Raises:
        FileNotFoundError: no such file.
        RefusedObjectError: it holds other objects.
        ValueError: it is damaged, or says that it is larger than its bytes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        check_unpacked(path)
        with torch.serialization.safe_globals([*allowed]):
            # not `torch.load`: `safe_torch_load` puts this function in its place
            return torch.serialization.load(
                path, map_location=map_location, weights_only=True, mmap=mmap or None
            )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of torch, pickle, zipfile, struct, …
        found = _REFUSED.search(str(error))
        if found and isinstance(error, pickle.UnpicklingError):
            raise RefusedObjectError(path, found[1]) from None
        reason = first_line(error)
        if reason.startswith("Weights only load failed"):  # then come ways to open it all the same
            reason = "no file of torch.save"
        raise ValueError(f"{path}: damaged: {reason}") from None


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def check_unpacked(path: Path) -> None:
    """
    Raises:
        ValueError: a zipped file, as `torch.save` writes them, says that it is larger unpacked:
            torch never packs, so that it was made to take all memory.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise ValueError(f"says that it has {unpacked} bytes unpacked, more than the file")


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """Name -> tensor, of a file of safetensors (by its suffix) or of `torch.save`.

    Raises:
        FileNotFoundError, ValueError: as `load_pickled`; anything else than named tensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        found = load_pickled(path)
        if not isinstance(found, dict):
            raise ValueError(f"{path}: holds a {type(found).__name__} instead of named tensors")
        for name, value in found.items():
            if not isinstance(name, str) or not isinstance(value, Tensor):
                raise ValueError(f"{path}: holds {name!r}, which is no named tensor")
            check_content(value, path, name)
        return found
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return load_file(path)
    except (SafetensorError, *DAMAGED) as error:
        raise ValueError(f"{path}: {path.name} is damaged: {first_line(error)}") from None


def check_content(value: Tensor, path: Path, name: str = "") -> None:
    """
    Raises:
        ValueError: a tensor of a file is larger than what the file has of it, e.g. a view that
            repeats one number, which would take all memory as soon as it is copied.
    """
    most = path.stat().st_size
    if value.layout == torch.strided and not value.is_quantized and not value.is_meta:
        most = min(most, value.untyped_storage().nbytes())
        if value.numel() * value.element_size() <= most:
            return
    raise ValueError(f"{path}: tensor {name} is not plain, or larger than its content in the file")


def check_finite(tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]], where: str) -> None:
    """
    Raises:
        ValueError: a floating-point tensor has a value that is NaN or infinite; by name.
    """
    pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
    for name, value in pairs:
        if value.is_floating_point() and not value.is_meta and not bool(value.isfinite().all()):
            raise ValueError(
                f"{where}: tensor {name} has NaN or infinite values: the training diverged, or the "
                "file is damaged"
            )


def plain_values() -> list[type | tuple[Callable, str]]:
    """What is in ESPnet's statistics beside Python's own numbers, for `load_pickled`."""
    scalar = np.float64(0).__reduce__()[0]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")]
    return [datetime.timedelta, np.dtype, *kinds, *names]


@contextmanager
def safe_torch_load() -> Iterator[None]:
    """While active, `torch.load` runs nothing that is in a file, whatever it is asked for.

    ESPnet asks for more when it resumes, averages epochs and takes `init_param`.
    """
    load = torch.load

    def load_safely(
        f: Any, map_location: Any = None, *args: Any, weights_only: bool = True, **kwargs: Any
    ) -> Any:
        if not isinstance(f, str | os.PathLike):
            return load(f, map_location, *args, weights_only=True, **kwargs)
        return load_pickled(Path(f), plain_values(), map_location=map_location, **kwargs)

    torch.load = load_safely  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.load = load
