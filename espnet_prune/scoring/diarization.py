"""Diarization error rate (DER) with overlapping speech and no collar, as SUPERB scores it.

DER = (missed + false alarm + confusion) / speech, where at each moment with R reference and H
hypothesised speakers, C of them matching, max(0, R - H) are missed, max(0, H - R) are false
alarms and min(R, H) - C are confused. Speakers are matched one to one within a recording, so that
matching speakers overlap as long as possible (NIST, "The 2009 (RT-09) Rich Transcription Meeting
Recognition Evaluation Plan").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import median_filter
from scipy.optimize import linear_sum_assignment

from espnet_prune.scoring.bootstrap import RESAMPLES, Estimate, ratio_of_sums


class Turn(NamedTuple):
    """A speaker talks from begin to end, in seconds."""

    speaker: str
    begin: float
    end: float


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


def read_rttm(path: str | Path) -> dict[str, list[Turn]]:
    """The turns of each recording in an RTTM file; types of lines but SPEAKER are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is malformed, or the file is ESPnet's RTTM, which counts samples.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    turns: dict[str, list[Turn]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        if fields and fields[0] == "END":
            raise ValueError(
                f"{path}: line {number}: END is of ESPnet's RTTM, which counts samples; "
                "give the standard one, in seconds"
            )
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            begin, duration, speaker = float(fields[3]), float(fields[4]), fields[7]
            if not (begin >= 0 and 0 <= duration < float("inf")):
                raise ValueError
        except (IndexError, ValueError):
            raise ValueError(
                f"{path}: line {number}: not 'SPEAKER recording channel begin duration <NA> <NA> "
                "speaker …' with times in seconds"
            ) from None
        turns.setdefault(fields[1], []).append(Turn(speaker, begin, begin + duration))
    return turns


def rttm_text(turns: Mapping[str, Sequence[Turn]]) -> str:
    """The turns as an RTTM file, sorted by recording and time."""
    return "".join(
        f"SPEAKER {recording} 1 {turn.begin:.3f} {turn.end - turn.begin:.3f} "
        f"<NA> <NA> {turn.speaker} <NA> <NA>\n"
        for recording in sorted(turns)
        for turn in sorted(turns[recording], key=lambda turn: (turn.begin, turn.speaker))
    )


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
