"""Diarization error rate (DER) with overlapping speech and no collar, as SUPERB scores it.

DER = (missed + false alarm + confusion) / speech, where at each moment with R reference and H
hypothesised speakers, C of them matching, max(0, R - H) are missed, max(0, H - R) are false
alarms and min(R, H) - C are confused. Speakers are matched one to one within a recording, so that
matching speakers overlap as long as possible (NIST, "The 2009 (RT-09) Rich Transcription Meeting
Recognition Evaluation Plan"). pyannote.metrics counts the seconds of each recording.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from espnet_prune.data.rttm import Turn
from espnet_prune.evaluate.metrics.bootstrap import Estimate, ratio_of_sums
from espnet_prune.extras import load_extra


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
        from scipy.ndimage import median_filter

        # Beyond the ends nobody speaks.
        active = median_filter(active.astype(np.uint8), size=(median, 1), mode="constant") > 0
    turns = []
    for speaker, row in enumerate(active.T):
        steps = np.diff(np.concatenate([[0], row.astype(np.int8), [0]]))
        begins, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
        times = zip(begins.tolist(), ends.tolist(), strict=True)
        turns += [Turn(str(speaker), b * frame_shift, e * frame_shift) for b, e in times]
    return turns


def _recording_errors(reference: Sequence[Turn], hypothesis: Sequence[Turn]) -> list[float]:
    """Seconds missed, falsely alarmed, confused, and of speech in one recording."""
    core = load_extra("pyannote.core", "superb")
    metrics = load_extra("pyannote.metrics.diarization", "superb")
    both = []
    for turns in (reference, hypothesis):
        annotation = core.Annotation()
        for track, turn in enumerate(turns):
            annotation[core.Segment(turn.begin, turn.end), track] = turn.speaker
        both.append(annotation.support())  # turns of one speaker that overlap become one
    times = [time for turn in [*reference, *hypothesis] for time in turn[1:]]
    scored = core.Timeline([core.Segment(min(times), max(times))] if times else [])
    rate = metrics.DiarizationErrorRate(collar=0, skip_overlap=False)
    found = rate.compute_components(*both, uem=scored)
    return [found[part] for part in ("missed detection", "false alarm", "confusion", "total")]


def count_diarization_errors(
    references: Mapping[str, Sequence[Turn]], hypotheses: Mapping[str, Sequence[Turn]]
) -> DiarizationErrors:
    """Errors of each recording of the reference, in its order (ValueError: there is none, or the
    hypothesis has another one).

    A recording without hypothesis is missed as a whole. Turns of one speaker that overlap each
    other count once.
    """
    unknown = sorted(hypotheses.keys() - references.keys())
    if unknown:
        number, first = len(unknown), unknown[0]
        raise ValueError(f"{number} recordings are not in the reference, the first is {first}")
    if not references:
        raise ValueError("the reference has no recording")
    rows = [_recording_errors(turns, hypotheses.get(key, [])) for key, turns in references.items()]
    return DiarizationErrors(*np.array(rows).T)


def diarization_error_rate(errors: DiarizationErrors) -> Estimate:
    """DER over all recordings together, as a fraction, with its interval over recordings
    (ValueError: the reference has no speech)."""
    return ratio_of_sums(errors.errors, errors.speech)
