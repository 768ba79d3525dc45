"""Speak the items of SPIRAL's format: one recording each, with the time of every sentence."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_prune.data.audio import SAMPLING_RATE, write_speech, written_samples
from espnet_prune.data.data_dir import claim, require_ours, write_table
from espnet_prune.data.parallel import parallel_map
from espnet_prune.data.sir.items import SirItem
from espnet_prune.data.sir.questions import write_questions
from espnet_prune.files.freshness import code_of
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_text

#: silence between two sentences of one speaker, and of two speakers, in seconds
PAUSE, TURN = 0.3, 0.6

#: (text, voice) -> (T,) float32 at 16 kHz
Speak = Callable[[str, str], np.ndarray]


@dataclass(frozen=True)
class Span:
    """A stretch of a recording, in seconds."""

    start: float
    end: float

    def __post_init__(self):
        if not 0 <= self.start < self.end:
            span = f"a span is from {self.start} to {self.end} s"
            raise ValueError(f"{span}, but has to begin at 0 or later and to end after that")


def cast(item: SirItem, voices: Sequence[str]) -> dict[str, str]:
    """speaker -> voice: each another one, drawn by the item's id (ValueError: too few voices)."""
    speakers = list(dict.fromkeys(speaker for speaker, _ in item.sentences))
    if len(speakers) > len(voices):
        few = f"{len(speakers)} speakers, but only {len(voices)} voices"
        raise ValueError(f"{item.id}: {few}: give more of them (--voices)")
    shift = int.from_bytes(hashlib.blake2b(item.id.encode(), digest_size=4).digest(), "big")
    return {s: voices[(n + shift) % len(voices)] for n, s in enumerate(speakers)}


def speak_item(item: SirItem, speak: Speak, voices: Sequence[str]) -> tuple[np.ndarray, list[Span]]:
    """The recording, (T,) float32 at 16 kHz, and where each sentence is in it."""
    who = cast(item, voices)
    parts: list[np.ndarray] = []
    spans: list[Span] = []
    end, before = 0, None
    for speaker, sentence in item.sentences:
        if before is not None:
            gap = int((PAUSE if speaker == before else TURN) * SAMPLING_RATE)
            parts.append(np.zeros(gap, np.float32))
            end += gap
        parts.append(speak(sentence, who[speaker]))
        start, end = end, end + len(parts[-1])
        spans.append(Span(start / SAMPLING_RATE, end / SAMPLING_RATE))
        before = speaker
    return np.concatenate(parts), spans


def write_data_dir(
    items: Sequence[SirItem], speak: Speak, voices: Sequence[str], directory: Path, nj: int = 1
) -> float:
    """Speak all items into a Kaldi-style data directory.

    Writes wav/ID.flac and wav.scp, text (the transcript), utt2spk, utt2num_samples, questions (see
    `write_questions`) and sentences: `ID<blank>JSON` with the (start, end) seconds of every
    sentence and of the key. A recording that an earlier, stopped call has written is kept when it
    is of the same words and voices. Nothing is spoken where an item has too many speakers (`cast`).

    Returns: seconds of speech.
    """
    for item in items:
        cast(item, voices)
    require_ours(directory)
    claim(directory)
    wav = directory / "wav"
    wav.mkdir(parents=True, exist_ok=True)
    worker = functools.partial(_speak_once, speak, tuple(voices), wav)
    made = list(parallel_map(worker, list(items), nj, f"speak {directory.name}"))
    rows = {item.id: row for item, row in zip(items, made, strict=True)}
    write_table(directory / "wav.scp", {item.id: wav / f"{item.id}.flac" for item in items})
    write_table(directory / "text", {item.id: item.transcript for item in items})
    write_table(directory / "utt2spk", {item.id: item.id for item in items})
    samples = {name: row["samples"] for name, row in rows.items()}
    write_table(directory / "utt2num_samples", samples)
    write_table(directory / "sentences", {name: json.dumps(row) for name, row in rows.items()})
    write_questions(directory / "questions", items)
    return sum(samples.values()) / SAMPLING_RATE


def _speak_once(speak: Speak, voices: Sequence[str], wav: Path, item: SirItem) -> dict:
    """Speak an item into its file; a record beside it has its times and what it is made of."""
    code = code_of("data/audio.py", "data/voices.py", "data/sir/speech.py")
    made_of = json.dumps([item.sentences, item.key, cast(item, voices), code])
    digest = hashlib.blake2b(made_of.encode(), digest_size=8).hexdigest()
    audio, record = wav / f"{item.id}.flac", wav / f"{item.id}.json"
    if record.is_file():
        row = read_record(record, ("made_of", "samples"))
        whole = row["samples"] == written_samples(audio, SAMPLING_RATE)
        if row.pop("made_of") == digest and whole:
            return row
    samples, spans = speak_item(item, speak, voices)
    write_speech(audio, samples, SAMPLING_RATE)
    times = [[round(span.start, 4), round(span.end, 4)] for span in spans]
    first, end = item.key
    key = [times[first][0], times[end - 1][1]]  # all sentences that hold the answer
    row = {"samples": len(samples), "sentences": times, "key": key}
    write_text(record, json.dumps({"made_of": digest, **row}) + "\n")
    return row
