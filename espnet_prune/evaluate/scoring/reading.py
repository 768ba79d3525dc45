"""Hypotheses aligned with references, and arrays that a table names."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from espnet_prune.data.data_dir import read_table

logger = logging.getLogger(__name__)


def one_space(text: str) -> str:
    """Text with one space between words."""
    return " ".join(text.split())


def warn_missing(
    path: Path, hypotheses: Mapping[str, object], references: Mapping[str, object], what: str
) -> list[str]:
    """The keys without hypothesis, with a warning for each that says what it counts as."""
    missing = sorted(references.keys() - hypotheses.keys())
    for key in missing:
        logger.warning("%s: no hypothesis for %s: %s", path, key, what)
    return missing


def align(path: Path, hypotheses: Mapping[str, str], references: Mapping[str, str], what: str):
    """The hypotheses in the order of the references, "" for those that are not there.

    Args:
        path: the file of the hypotheses, for messages.
        what: what a missing hypothesis counts as, for the warnings.
    Returns: the list of hypotheses and that of the keys without one.
    """
    unknown = sorted(hypotheses.keys() - references.keys())
    if unknown:
        more = f"{len(unknown)} utterances are not in the reference, the first is {unknown[0]}"
        raise ValueError(f"{path}: {more}")
    missing = warn_missing(path, hypotheses, references, what)
    return [hypotheses.get(key, "") for key in references], missing


def read_references(path: Path, normalize: Callable[[str], str] = one_space) -> dict[str, str]:
    """Utterance -> normalised reference, sorted, from ``utterance value`` lines."""
    return {key: normalize(value) for key, value in sorted(read_table(path).items())}


def read_pair(ref: Path, hyp: Path, what: str) -> tuple[list[str], list[str], list[str]]:
    """References and hypotheses of two ``utterance value`` files, and the keys without hypothesis.

    Spaces between words count as one.
    """
    references = read_references(ref)
    hypotheses, missing = align(hyp, read_references(hyp), references, what)
    return list(references.values()), hypotheses, missing


def finite(text: str) -> float:
    """A number (ValueError: it is none, NaN or infinite)."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"'{text}' is not finite")
    return value


def load_array(path: str | Path) -> np.ndarray:
    """The array of a .npy file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        # Mapped first: a header may announce more than there is, or than the memory holds
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(mapped, np.ndarray) or not np.issubdtype(mapped.dtype, np.number):
            raise ValueError("it holds something else")
        return np.array(mapped)
    except (ValueError, EOFError, SyntaxError, OverflowError) as error:
        raise ValueError(f"{path}: not a .npy file of numbers: {error}") from None
