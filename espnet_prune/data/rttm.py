"""Turns of speakers, and the RTTM files that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from espnet_prune.files.reading import read_lines


class Turn(NamedTuple):
    """A speaker talks from begin to end, in seconds."""

    speaker: str
    begin: float
    end: float


def read_rttm(path: str | Path, hint: str = "") -> dict[str, list[Turn]]:
    """The turns of each recording in an RTTM file; types of lines but SPEAKER are left out.

    ESPnet's RTTM, which counts samples, is refused. ``hint`` says what to do when there is no file.
    """
    turns: dict[str, list[Turn]] = {}
    for number, line in enumerate(read_lines(path, hint), 1):
        fields = line.split()
        if fields[:1] == ["END"]:
            text = "END is of ESPnet's RTTM, which counts samples; give one in seconds"
            raise ValueError(f"{path}: line {number}: {text}")
        if fields[:1] != ["SPEAKER"]:
            continue
        try:
            begin, duration, speaker = float(fields[3]), float(fields[4]), fields[7]
            if not (begin >= 0 and duration >= 0 and begin + duration < float("inf")):
                raise ValueError
        except (IndexError, ValueError):
            form = "SPEAKER recording channel begin duration <NA> <NA> speaker …"
            raise ValueError(f"{path}: line {number}: not '{form}', in seconds") from None
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
