"""Diarization error rate with 95% confidence interval, overlaps scored, no collar.

The hypothesis is an RTTM file, or the frame probabilities of diar_posteriors. For the latter,
threshold and median filter are chosen on the development set. SUPERB's habit is to choose them on
the test set; that number is der_best_on_test.
"""

from __future__ import annotations

import argparse
import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from espnet_prune.bin.score_output import add_output, load_array
from espnet_prune.cli import errors as cli
from espnet_prune.data.data_dir import read_table
from espnet_prune.data.rttm import Turn, read_rttm, rttm_text
from espnet_prune.evaluate.metrics.diarization import (
    DiarizationErrors,
    count_diarization_errors,
    diarization_error_rate,
    frames_to_turns,
)
from espnet_prune.evaluate.report import metric, write_scores
from espnet_prune.files.writing import write_text

logger = logging.getLogger(__name__)

# SUPERB's grid. Median filters are in frames.
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
MEDIANS = (1, 11)
CHOICES = tuple(itertools.product(THRESHOLDS, MEDIANS))

Recordings = Mapping[str, Sequence[Turn]]


def count(reference: Recordings, hypothesis: Recordings, path: Path) -> DiarizationErrors:
    try:
        return count_diarization_errors(reference, hypothesis)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_probabilities(path: Path, reference: Recordings) -> dict[str, np.ndarray]:
    """Recording -> probabilities of shape (frames, speakers), from 'recording file.npy' lines."""
    probabilities = {}
    for recording, file in read_table(path).items():
        array = load_array(file)
        if array.ndim != 2 or not ((array >= 0) & (array <= 1)).all():
            raise ValueError(f"{file}: not probabilities of shape (frames, speakers)")
        probabilities[recording] = array
    return probabilities


def all_turns(
    probabilities: Mapping[str, np.ndarray], frame_shift: float, choice: tuple[float, int]
) -> dict[str, list[Turn]]:
    return {
        recording: frames_to_turns(array, frame_shift, *choice)
        for recording, array in probabilities.items()
    }


def errors_of_choices(
    ref: Path, posteriors: Path, frame_shift: float
) -> tuple[list[DiarizationErrors], dict[str, np.ndarray]]:
    """Errors for each of `CHOICES`, and the probabilities."""
    reference = read_rttm(ref)
    probabilities = read_probabilities(posteriors, reference)
    errors = [
        count(reference, all_turns(probabilities, frame_shift, choice), posteriors)
        for choice in tqdm(CHOICES, desc=str(posteriors), unit="choice", disable=None)
    ]
    warn_missing(posteriors, reference, probabilities)
    return errors, probabilities


def warn_missing(path: Path, reference: Recordings, hypothesis: Mapping) -> None:
    for recording in sorted(reference.keys() - hypothesis.keys()):
        logger.warning("%s: no hypothesis for %s: it counts as missed", path, recording)


def _best(errors: list[DiarizationErrors]) -> int:
    return int(np.argmin([part.errors.sum() for part in errors]))


def run(args: argparse.Namespace) -> None:
    details: dict = {}
    if args.hyp:
        if args.dev_ref or args.dev_posteriors or args.frame_shift is not None:
            raise ValueError("--hyp needs no development set and no --frame_shift")
        reference, hypothesis = read_rttm(args.ref), read_rttm(args.hyp)
        errors = count(reference, hypothesis, args.hyp)
        warn_missing(args.hyp, reference, hypothesis)
    else:
        if None in (args.dev_ref, args.dev_posteriors, args.frame_shift):
            raise ValueError("--posteriors needs --dev_ref, --dev_posteriors and --frame_shift")
        if not args.frame_shift > 0:
            raise ValueError(f"--frame_shift {args.frame_shift:g}: must be positive, in seconds")
        on_dev, _ = errors_of_choices(args.dev_ref, args.dev_posteriors, args.frame_shift)
        on_test, probabilities = errors_of_choices(args.ref, args.posteriors, args.frame_shift)
        chosen, best = _best(on_dev), _best(on_test)
        errors = on_test[chosen]
        names = ("threshold", "median")
        details["chosen_on_dev"] = dict(zip(names, CHOICES[chosen], strict=True))
        details["best_on_test"] = dict(zip(names, CHOICES[best], strict=True))
        turns = all_turns(probabilities, args.frame_shift, CHOICES[chosen])
        write_text(args.output_dir / "hyp.rttm", rttm_text(turns))
    rate = diarization_error_rate(errors)
    metrics = {"der": metric(rate.value, rate)}
    for name in ("missed", "false_alarm", "confusion", "speech"):
        details[f"{name}_seconds"] = float(getattr(errors, name).sum())
    if not args.hyp:
        rate = diarization_error_rate(on_test[best])
        metrics["der_best_on_test"] = metric(rate.value, rate)
    write_scores(args.output_dir, metrics, recordings=len(errors.speech), **details)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ref", type=Path, required=True, help="RTTM of the test set")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--hyp", type=Path, help="hypothesised RTTM of the test set")
    source.add_argument("--posteriors", type=Path, help="diarize.scp of the test set")
    parser.add_argument("--dev_ref", type=Path, help="RTTM of the development set")
    parser.add_argument("--dev_posteriors", type=Path, help="diarize.scp of the development set")
    parser.add_argument("--frame_shift", type=float, help="seconds from frame to frame")
    add_output(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
