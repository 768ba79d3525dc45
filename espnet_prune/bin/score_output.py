"""What the scoring command lines share: hypotheses aligned with references, scores.json, tables.

scores.json holds ``metrics`` (name -> value, low and high; fractions, with the ends of the 95%
bootstrap interval) beside what else the scorer has to tell. `superb_score` reads it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from espnet_prune.data.data_dir import read_table
from espnet_prune.evaluate.report import SCORES

logger = logging.getLogger(__name__)


def align(path: Path, hypotheses: Mapping[str, str], references: Mapping[str, str], what: str):
    """The hypotheses in the order of the references, "" for those that are not there.

    Args:
        path: the file of the hypotheses, for messages.
        what: what a missing hypothesis counts as, for the warnings.

    Returns:
        The list of hypotheses and that of the keys without one.

    Raises:
        ValueError: a hypothesis has no reference.
    """
    unknown = sorted(hypotheses.keys() - references.keys())
    if unknown:
        raise ValueError(
            f"{path}: {len(unknown)} utterances are not in the reference, the first is {unknown[0]}"
        )
    missing = sorted(references.keys() - hypotheses.keys())
    for key in missing:
        logger.warning("%s: no hypothesis for %s: %s", path, key, what)
    return [hypotheses.get(key, "") for key in references], missing


def read_pair(ref: Path, hyp: Path, what: str) -> tuple[list[str], list[str], list[str]]:
    """References and hypotheses of two ``utterance value`` files, and the keys without hypothesis.

    Spaces between words count as one.
    """
    references = {key: " ".join(value.split()) for key, value in sorted(read_table(ref).items())}
    found = {key: " ".join(value.split()) for key, value in read_table(hyp).items()}
    hypotheses, missing = align(hyp, found, references, what)
    return list(references.values()), hypotheses, missing


def load_array(path: str | Path) -> np.ndarray:
    """The array of a .npy file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no plain array.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a .npy file of numbers: {error}") from None


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the option --output_dir."""
    parser.add_argument(
        "--output_dir", type=Path, required=True, help=f"for {SCORES} (values as fractions)"
    )


def get_pair_parser(description: str) -> argparse.ArgumentParser:
    """A parser with --ref, --hyp and --output_dir."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--ref", type=Path, required=True, help="'utterance reference' lines")
    parser.add_argument("--hyp", type=Path, required=True, help="hypotheses, in the same form")
    add_output(parser)
    return parser
