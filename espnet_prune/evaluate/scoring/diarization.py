"""Scorers of diarisation: DER of an RTTM file, or of the probabilities of frames."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from espnet_prune.data.data_dir import read_table
from espnet_prune.data.rttm import Turn, read_rttm, rttm_text
from espnet_prune.evaluate.metrics.diarization import (
    DiarizationErrors,
    count_diarization_errors,
    diarization_error_rate,
    frames_to_turns,
)
from espnet_prune.evaluate.report import metric, write_scores
from espnet_prune.evaluate.scoring.reading import load_array
from espnet_prune.files.writing import write_text

logger = logging.getLogger(__name__)

# SUPERB's grid. Median filters are in frames.
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
MEDIANS = (1, 11)
CHOICES = tuple(itertools.product(THRESHOLDS, MEDIANS))

Recordings = dict[str, list[Turn]]


def score_der(
    ref: Path,
    output_dir: Path,
    hyp: Path | None = None,
    posteriors: Path | None = None,
    dev_ref: Path | None = None,
    dev_posteriors: Path | None = None,
    frame_shift: float | None = None,
) -> str:
    """DER of an RTTM file, or of probabilities (see `score_posteriors`), whose turns are written to
    hyp.rttm. A recording without hypothesis counts as missed.

    Raises:
        FileNotFoundError, ValueError: a file cannot be read, a recording has no reference, or
            options are missing or do not go together.
    """
    if hyp is not None:
        if (dev_ref, dev_posteriors, frame_shift) != (None, None, None):
            raise ValueError("--hyp needs no development set and no --frame_shift")
        reference, hypothesis = read_rttm(ref), read_rttm(hyp)
        errors = _count(reference, hypothesis, hyp)
        _warn_missing(hyp, reference, hypothesis)
        return write_scores(output_dir, **_scores(errors))
    if posteriors is None or dev_ref is None or dev_posteriors is None or frame_shift is None:
        raise ValueError("--posteriors needs --dev_ref, --dev_posteriors and --frame_shift")
    if not frame_shift > 0:
        raise ValueError(f"--frame_shift {frame_shift:g}: must be positive seconds")
    scores, turns = score_posteriors(ref, posteriors, dev_ref, dev_posteriors, frame_shift)
    write_text(output_dir / "hyp.rttm", rttm_text(turns))
    return write_scores(output_dir, **scores)


def score_posteriors(
    ref: Path, posteriors: Path, dev_ref: Path, dev_posteriors: Path, frame_shift: float
) -> tuple[dict, Recordings]:
    """DER of frame probabilities, and their turns by the threshold and the filter of the dev set.

    SUPERB's habit is to choose both on the test set; that number is der_best_on_test.

    Args:
        ref, dev_ref: RTTM files.
        posteriors, dev_posteriors: ``recording file.npy`` lines, arrays (frames, speakers).
        frame_shift: seconds from frame to frame.
    Raises:
        FileNotFoundError, ValueError: a file cannot be read, or holds no probabilities.
    """
    on_dev, _ = _errors_of_choices(dev_ref, dev_posteriors, frame_shift)
    on_test, probabilities = _errors_of_choices(ref, posteriors, frame_shift)
    sums = [[errors.errors.sum() for errors in choices] for choices in (on_dev, on_test)]
    chosen, best = np.argmin(sums, axis=1).tolist()
    scores = _scores(on_test[chosen])
    rate = diarization_error_rate(on_test[best])
    scores["metrics"]["der_best_on_test"] = metric(rate)
    for name, place in (("chosen_on_dev", chosen), ("best_on_test", best)):
        scores[name] = dict(zip(("threshold", "median"), CHOICES[place], strict=True))
    return scores, _all_turns(probabilities, frame_shift, CHOICES[chosen])


def _scores(errors: DiarizationErrors) -> dict:
    rate = diarization_error_rate(errors)
    parts = ("missed", "false_alarm", "confusion", "speech")
    return {
        "metrics": {"der": metric(rate)},
        "recordings": len(errors.speech),
        **{f"{name}_seconds": float(getattr(errors, name).sum()) for name in parts},
    }


def _errors_of_choices(
    ref: Path, posteriors: Path, frame_shift: float
) -> tuple[list[DiarizationErrors], dict[str, np.ndarray]]:
    """Errors for each of `CHOICES`, and the probabilities."""
    reference = read_rttm(ref)
    probabilities = _read_probabilities(posteriors)
    errors = [
        _count(reference, _all_turns(probabilities, frame_shift, choice), posteriors)
        for choice in tqdm(CHOICES, desc=str(posteriors), unit="choice", disable=None)
    ]
    _warn_missing(posteriors, reference, probabilities)
    return errors, probabilities


def _read_probabilities(path: Path) -> dict[str, np.ndarray]:
    """Recording -> probabilities of shape (frames, speakers)."""
    probabilities = {}
    for recording, file in read_table(path).items():
        probabilities[recording] = array = load_array(file)
        if array.ndim != 2 or not ((array >= 0) & (array <= 1)).all():
            raise ValueError(f"{file}: not probabilities of shape (frames, speakers)")
    return probabilities


def _all_turns(probabilities: Mapping[str, np.ndarray], frame_shift: float, choice) -> Recordings:
    return {key: frames_to_turns(a, frame_shift, *choice) for key, a in probabilities.items()}


def _count(reference: Recordings, hypothesis: Recordings, path: Path) -> DiarizationErrors:
    try:
        return count_diarization_errors(reference, hypothesis)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _warn_missing(path: Path, reference: Recordings, hypothesis: Mapping) -> None:
    for recording in sorted(reference.keys() - hypothesis.keys()):
        logger.warning("%s: no hypothesis for %s: it counts as missed", path, recording)
