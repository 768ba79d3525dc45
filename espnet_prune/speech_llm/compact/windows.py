"""Windows of synthetic speech to train a speech language model on, as data directories.

A window is some sentences of a written passage in one voice; in a share of them an invented fact is
hidden, with a question about it.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_prune.data.data_dir import read_table, write_table
from espnet_prune.data.sir.items import SirItem, write_questions
from espnet_prune.data.sir.speech import write_data_dir
from espnet_prune.data.voices import Voices
from espnet_prune.speech_llm.compact.facts import hide, invent
from espnet_prune.speech_llm.compact.written_text import windows

#: Voices to train on, and those that only evaluations may use.
TRAINING_VOICES = (
    "kal",
    "rms",
    "en-us",
    "en",
    "en-us+m3",
    "en+f2",
    "en-us+f4",
    "en-gb-scotland",
    "en+m7",
    "en-us+f1",
    "en-us+m5",
    "en-gb-scotland+f3",
)
EVALUATION_VOICES = ("slt", "awb", "en-029", "en-gb-x-rp+m1", "en-us-nyc+f3")
#: of the training voices
SPEEDS = (0.9, 1.0, 1.15)
#: of the sentences of a window, before a fact comes to them: 10 to 17 s with pauses and a fact
WINDOW_SECONDS = 10.5
#: what ids of windows begin with, before "_", that are to be heard, but not asked about
WORDS = "words"


@dataclass(frozen=True)
class TimedVoices:
    """`Voices` with a speed in the voice's name, "rms@1.15"; 1.0 when there is none."""

    voices: Voices

    def __call__(self, text: str, voice: str) -> np.ndarray:
        name, _, speed = voice.partition("@")
        return self.voices(text, name, float(speed or 1.0))


def window_items(
    passages: Iterable[Sequence[str]], prefix: str, fact_share: float, seed: int = 0
) -> list[SirItem]:
    """Cut passages into windows and hide facts in a share of them.

    Args:
        passages: lists of sentences.
        prefix: of the windows' ids.
    Returns: items; those without a fact have an empty question and no choices.
    """
    items = []
    cut = windows([list(p) for p in passages if p], WINDOW_SECONDS)
    for number, sentences in enumerate(cut):
        name = f"{prefix}_{number:06d}"
        draw = f"{seed} {name}"
        if random.Random(f"share {draw}").random() < fact_share:
            fact = invent(draw)
            sentences, place = hide(sentences, fact, draw)
            asked = fact.question, fact.choices, fact.answer
        else:
            place, asked = 0, ("", (), 0)
        items.append(
            SirItem(
                name,
                "window",
                tuple(("speaker", sentence) for sentence in sentences),
                (place, place + 1),
                *asked,
            )
        )
    return items


def speak_windows(
    items: Sequence[SirItem], voices: Sequence[str], tools: Path, directory: Path, nj: int
) -> float:
    """Speak windows into a data directory (`espnet_prune.data.sir.speech.write_data_dir`).

    Its `questions` has the windows with a fact only.

    Args:
        voices: names with or without a speed.
        tools: where the packages of the voices are unpacked.
    Returns: seconds of speech.
    """
    seconds = write_data_dir(items, TimedVoices(Voices(tools)), voices, directory, nj)
    write_questions(directory / "questions", [item for item in items if item.question])
    return seconds


def lower_case_words(texts: Iterable[str]) -> set[str]:
    """Words that inside sentences stand more often in lower case than with a capital."""
    counts: Counter[str] = Counter()
    for text in texts:
        for sentence in re.split(r"(?<=[.!?])\s+", text):
            counts.update(_words(sentence)[1:])
    return {w for w in counts if w[0].islower() and counts[w] >= counts[w[0].upper() + w[1:]]}


def spoken_words(text: str, lower: set[str]) -> str:
    """The words of a text without marks, those that begin a sentence in lower case if in `lower`.

    That is what the adapter learns to hear: marks make no sound.
    """
    words = []
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        found = _words(sentence)
        if found and found[0][0].lower() + found[0][1:] in lower:
            found[0] = found[0][0].lower() + found[0][1:]
        words += found
    return " ".join(words)


def _words(sentence: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", sentence)


def write_words(train: Path, others: Iterable[Path]) -> None:
    """Write the table `words`, see `spoken_words`, beside `text` of all data directories.

    Args:
        train: what begins a sentence in lower case is counted here.
    """
    lower = lower_case_words(read_table(train / "text").values())
    for directory in (train, *others):
        text = read_table(directory / "text")
        write_table(directory / "words", {u: spoken_words(t, lower) for u, t in text.items()})


def recordings(sizes: Mapping[str, int], most: int, seed: int = 0) -> list[list[str]]:
    """Windows one after the other in recordings of sizes drawn evenly up to `most`.

    Args:
        sizes: window -> its size.
    """
    draw, rows, room = random.Random(f"recordings {seed}"), [], 0
    for window, size in sizes.items():
        if size > room:
            rows.append([])
            room = max(draw.randint(1, most), size)
        rows[-1].append(window)
        room -= size
    return rows


def write_recordings(
    source: Path,
    feats: Mapping[str, Path],
    sizes: Mapping[str, int],
    target: Path,
    most: int,
    seed: int = 0,
) -> tuple[int, int]:
    """A data directory for LoRA: windows of passages in recordings of up to `most` frames, each
    with its transcript and the questions about its facts.

    Writes feats/ID.npy, feats.scp, feats_shape, prompt (what stands between the audio and an
    answer) and answer. Texts of one recording are separated by `SEPARATOR`. A question that two of
    its windows have is left out.

    Args:
        source: with `text` and `questions`.
        feats: window -> its features (T, D).
        sizes: window -> its frames T.
    Returns: recordings and texts written.
    Raises:
        ValueError: no window of a passage.
    """
    from espnet_prune.speech_llm.compact.model import SEPARATOR, TRANSCRIBE, ask

    text, questions = read_table(source / "text"), read_questions(source / "questions")
    passages = {window: sizes[window] for window in text if not window.startswith(f"{WORDS}_")}
    if not passages:
        raise ValueError(f"{source}: has no window of a passage, only of words")
    tables: dict[str, dict] = {n: {} for n in ("feats.scp", "feats_shape", "prompt", "answer")}
    number = 0
    for group in recordings(passages, most, seed):
        asked = [questions[w] for w in group if w in questions]
        times = Counter(question for question, _, _ in asked)
        pairs = [(ask(q), choices[answer]) for q, choices, answer in asked if times[q] == 1]
        pairs.append((TRANSCRIBE, " ".join(text[w] for w in group)))
        frames = np.concatenate([np.load(feats[w], allow_pickle=False) for w in group])
        name = group[0]
        path = target / "feats" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_frames(path, frames)
        tables["feats.scp"][name] = path
        tables["feats_shape"][name] = ",".join(map(str, frames.shape))
        prompts, answers = (
            [" ".join(t.split()) for t in texts] for texts in zip(*pairs, strict=True)
        )
        tables["prompt"][name], tables["answer"][name] = map(SEPARATOR.join, (prompts, answers))
        number += len(pairs)
    for table, values in tables.items():
        write_table(target / table, values)
    return len(tables["prompt"]), number


def write_frames(path: Path, frames: np.ndarray) -> None:
    """Write (T, D) features under a temporary name, then rename."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp.npy")
    np.save(temporary, frames)
    os.replace(temporary, path)


def read_questions(path: Path) -> dict[str, tuple[str, list[str], int]]:
    """Question, choices and number of the answer by id, as `write_questions` has written them."""
    rows = {name: json.loads(value) for name, value in read_table(path).items()}
    return {n: (row["question"], row["choices"], row["answer"]) for n, row in rows.items()}
