"""Scorers of diarisation: DER of an RTTM file, or of the probabilities of frames."""

from __future__ import annotations

import itertools
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
from espnet_prune.evaluate.report import write_scores
from espnet_prune.evaluate.scoring.reading import load_array, warn_missing
from espnet_prune.files.writing import write_text

# SUPERB's grid. Median filters are in frames.
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
MEDIANS = (1, 11)
CHOICES = tuple(itertools.product(THRESHOLDS, MEDIANS))
MISSED = "it counts as missed"

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
    """DER of an RTTM file, or of frame probabilities, whose turns are written to hyp.rttm.

    Threshold and median filter of probabilities are those that are best on the development set.
    SUPERB's habit is to choose both on the test set; that number is der_best_on_test. A recording
    without hypothesis counts as missed.

    Args:
        ref, dev_ref, hyp: RTTM files.
        posteriors, dev_posteriors: ``recording file.npy`` lines, arrays (frames, speakers).
        frame_shift: seconds from frame to frame.
    """
    if hyp is not None:
        if (dev_ref, dev_posteriors, frame_shift) != (None, None, None):
            raise ValueError("--hyp needs no development set and no --frame_shift")
        reference, hypothesis = read_rttm(ref), read_rttm(hyp)
        errors = _count(reference, hypothesis, hyp)
        warn_missing(hyp, hypothesis, reference, MISSED)
        return write_scores(output_dir, {"der": diarization_error_rate(errors)}, **_seconds(errors))
    if posteriors is None or dev_ref is None or dev_posteriors is None or frame_shift is None:
        raise ValueError("--posteriors needs --dev_ref, --dev_posteriors and --frame_shift")
    if not frame_shift > 0:
        raise ValueError(f"--frame_shift {frame_shift:g}: must be positive seconds")
    on_dev, _ = _errors_of_choices(dev_ref, dev_posteriors, frame_shift)
    on_test, probabilities = _errors_of_choices(ref, posteriors, frame_shift)
    sums = [[errors.errors.sum() for errors in choices] for choices in (on_dev, on_test)]
    chosen, best = np.argmin(sums, axis=1).tolist()
    turns = _all_turns(probabilities, frame_shift, CHOICES[chosen])
    write_text(output_dir / "hyp.rttm", rttm_text(turns))
    rates = (diarization_error_rate(on_test[place]) for place in (chosen, best))
    metrics = dict(zip(("der", "der_best_on_test"), rates, strict=True))
    found = _seconds(on_test[chosen])
    for name, place in (("chosen_on_dev", chosen), ("best_on_test", best)):
        found[name] = dict(zip(("threshold", "median"), CHOICES[place], strict=True))
    return write_scores(output_dir, metrics, **found)


def _seconds(errors: DiarizationErrors) -> dict:
    parts = ("missed", "false_alarm", "confusion", "speech")
    seconds = {f"{name}_seconds": float(getattr(errors, name).sum()) for name in parts}
    return {"recordings": len(errors.speech), **seconds}


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
    warn_missing(posteriors, probabilities, reference, MISSED)
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
