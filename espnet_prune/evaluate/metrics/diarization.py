"""Diarization error rate (DER) with overlapping speech and no collar, as SUPERB scores it.

DER = (missed + false alarm + confusion) / speech, where at each moment with R reference and H
hypothesised speakers, C of them matching, max(0, R - H) are missed, max(0, H - R) are false
alarms and min(R, H) - C are confused. Speakers are matched one to one within a recording, so that
matching speakers overlap as long as possible (NIST, "The 2009 (RT-09) Rich Transcription Meeting
Recognition Evaluation Plan").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter
from scipy.optimize import linear_sum_assignment

from espnet_prune.data.rttm import Turn
from espnet_prune.evaluate.metrics.bootstrap import RESAMPLES, Estimate, ratio_of_sums


@dataclass(frozen=True)
class DiarizationErrors:
    """Seconds of speaker time for each recording, each of shape (recordings,)."""

    missed: np.ndarray
    false_alarm: np.ndarray
    confusion: np.ndarray
    speech: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        return self.missed + self.false_alarm + self.confusion


def frames_to_turns(
    probabilities: np.ndarray, frame_shift: float, threshold: float, median: int = 1
) -> list[Turn]:
    """Turns from the probability that each speaker is active in each frame.

    Args:
        probabilities: shape (frames, speakers).
        frame_shift: seconds from frame to frame.
        threshold: a speaker is active above it.
        median: odd length in frames of the median filter over decisions; 1 is none.
    """
    active = np.asarray(probabilities) > threshold
    if median > 1:
        # Beyond the ends nobody speaks.
        active = median_filter(active.astype(np.uint8), size=(median, 1), mode="constant") > 0
    turns = []
    for speaker, row in enumerate(active.T):
        steps = np.diff(np.concatenate([[0], row.astype(np.int8), [0]]))
        begins, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
        turns += [
            Turn(str(speaker), begin * frame_shift, end * frame_shift)
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
        ]
    return turns


def _activity(turns: Sequence[Turn], bounds: np.ndarray) -> np.ndarray:
    """Whether each speaker talks between two neighbouring bounds, shape (speakers, spans)."""
    speakers = sorted({turn.speaker for turn in turns})
    active = np.zeros((len(speakers), max(0, len(bounds) - 1)), dtype=bool)
    for turn in turns:
        first, last = np.searchsorted(bounds, [turn.begin, turn.end])
        active[speakers.index(turn.speaker), first:last] = True
    return active


def _recording_errors(
    reference: Sequence[Turn], hypothesis: Sequence[Turn]
) -> tuple[float, float, float, float]:
    """Seconds missed, falsely alarmed, confused, and of speech in one recording."""
    bounds = np.unique([time for turn in [*reference, *hypothesis] for time in turn[1:]])
    seconds = np.diff(bounds)
    spoken, guessed = _activity(reference, bounds), _activity(hypothesis, bounds)
    overlap = (spoken * seconds) @ guessed.T.astype(float)
    pairs = linear_sum_assignment(overlap, maximize=True)
    matched = (spoken[pairs[0]] & guessed[pairs[1]]).sum(axis=0)
    true, found = spoken.sum(axis=0), guessed.sum(axis=0)
    parts = (
        np.maximum(true - found, 0),
        np.maximum(found - true, 0),
        np.minimum(true, found) - matched,
        true,
    )
    missed, false_alarm, confusion, speech = (float(part @ seconds) for part in parts)
    return missed, false_alarm, confusion, speech


def count_diarization_errors(
    references: Mapping[str, Sequence[Turn]], hypotheses: Mapping[str, Sequence[Turn]]
) -> DiarizationErrors:
    """Errors of each recording of the reference, in its order.

    A recording without hypothesis is missed as a whole. Turns of one speaker that overlap each
    other count once.

    Raises:
        ValueError: a hypothesised recording is not in the reference, or there is no recording.
    """
    unknown = sorted(hypotheses.keys() - references.keys())
    if unknown:
        raise ValueError(
            f"{len(unknown)} recordings are not in the reference, the first is {unknown[0]}"
        )
    if not references:
        raise ValueError("the reference has no recording")
    rows = [_recording_errors(turns, hypotheses.get(key, [])) for key, turns in references.items()]
    return DiarizationErrors(*np.array(rows).T)


def diarization_error_rate(
    errors: DiarizationErrors, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """DER over all recordings together, as a fraction, with its interval over recordings.

    Raises:
        ValueError: the reference has no speech.
    """
    return ratio_of_sums(errors.errors, errors.speech, resamples, seed)
