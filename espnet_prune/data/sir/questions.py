"""Recordings and questions about them: the table `questions` of a data directory.

A line of the table is `id<blank>JSON` with `question`, `choices` (texts) and `answer` (number of
the right one).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from espnet_prune.data.audio import check_length, length_of, load_speech
from espnet_prune.data.data_dir import (
    audio_path,
    optional_table,
    read_counts,
    read_scp,
    read_table,
    write_table,
)
from espnet_prune.files.archives import place_of
from espnet_prune.files.reading import parse_json

LETTERS = "ABCDEFGH"


@dataclass(frozen=True)
class Question:
    """What is asked about one recording.

    Attributes:
        id: of the recording; unique, without blanks.
        question: without choices.
        choices: their texts without letters.
        answer: number of the right one.
    """

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int


Q = TypeVar("Q", bound=Question)


def shuffled(question: Q, seed: int = 0) -> Q:
    """The question with its choices in an order drawn by seed and id (not by its place in a file).

    In the published rows the right letter is B in 603 of 1,012 cases, so that always saying B
    scores almost what the paper's unpruned model does.
    """
    digest = hashlib.blake2b(f"{seed} {question.id}".encode(), digest_size=8).digest()
    order = list(range(len(question.choices)))
    random.Random(int.from_bytes(digest, "big")).shuffle(order)
    choices = tuple(question.choices[n] for n in order)
    return replace(question, choices=choices, answer=order.index(question.answer))


def write_questions(path: str | Path, questions: Iterable[Question]) -> None:
    """Write a questions file, sorted by id."""
    rows = {
        item.id: {"question": item.question, "choices": item.choices, "answer": item.answer}
        for item in questions
    }
    write_table(path, {name: json.dumps(row, ensure_ascii=False) for name, row in rows.items()})


def read_questions(path: str | Path) -> dict[str, Question]:
    """Questions by id (ValueError: none, or a line that is not one, with its id)."""
    found = {}
    for name, value in read_table(path).items():
        with located(f"{path}: {name}"):
            row = parse_json(value)
            question, answer = question_text(row["question"]), row["answer"]
            choices = choice_texts(row["choices"])
            if type(answer) is not int or not 0 <= answer < len(choices):
                raise ValueError(f"the answer is {answer!r}, but has to be 0 to {len(choices) - 1}")
            found[name] = Question(name, question, choices, answer)
    if not found:
        raise ValueError(f"{path}: no questions in it")
    return found


@dataclass(frozen=True)
class Recording:
    """A recording and what is asked about it; None is not known."""

    question: Question
    path: Path
    samples: int | None
    transcript: str | None

    @property
    def id(self) -> str:
        return self.question.id

    def load(self, fs: int) -> np.ndarray:
        """(T,) float32 samples, see `espnet_prune.data.audio.load_speech`."""
        return load_speech(self.path, fs, num_samples=self.samples)

    def written(self, kind: str) -> str:
        """What the model gets instead of audio: the transcript, or "" for `nothing`."""
        if kind == "nothing":
            return ""
        if not self.transcript:
            raise ValueError(f"{self.id}: has no line in text, so there is no transcript")
        return self.transcript


def read_recordings(data_dir: str | Path, keys: Sequence[str] | None = None) -> list[Recording]:
    """The recordings of a data directory with wav.scp, questions and, optionally,
    utt2num_samples and text; `keys` are those that are wanted, in this order.

    Raises:
        FileNotFoundError: a table or an audio file is missing.
        ValueError: there are segments, an item without question, a recording that ends early or is
            not audio, or a damaged table.
    """
    folder = Path(data_dir)
    scp, questions = read_scp(folder / "wav.scp"), read_questions(folder / "questions")
    counts, text = folder / "utt2num_samples", optional_table(folder / "text")
    samples = read_counts(counts) if counts.is_file() else {}
    found = []
    for name in scp if keys is None else keys:
        if name not in scp:
            raise ValueError(f"{folder / 'wav.scp'}: {name} is not there, but asked for")
        if name not in questions:
            raise ValueError(f"{folder / 'questions'}: {name} has no question")
        path = audio_path(scp[name])
        if not os.path.isfile(place_of(path)[0]):
            raise FileNotFoundError(f"{folder / 'wav.scp'}: {name}: no such file as {path}")
        check_length(length_of(path)[0], samples.get(name), path)
        found.append(Recording(questions[name], path, samples.get(name), text.get(name)))
    return found


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Have errors of reading a JSON row say where it is, as ValueError."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{where}: key {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def text_of(value, what: str) -> str:
    """A text of a JSON row, by its name in the error; ValueError where it is something else."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is {value!r}, but has to be text")
    return value


def list_of(value, what: str) -> list:
    """As `text_of`, a list."""
    if not isinstance(value, list):
        raise ValueError(f"{what} is {value!r}, but has to be a list")
    return value


def question_text(value) -> str:
    """A question without blanks around it; it has to have a text."""
    text = text_of(value, "the question").strip()
    if not text:
        raise ValueError("the question has no text")
    return text


def choice_texts(value, without: re.Pattern = re.compile("^")) -> tuple[str, ...]:
    """2 to 8 different texts without blanks around them, and `without` what this finds in them."""
    texts = [text_of(choice, "a choice") for choice in list_of(value, "what is to choose from")]
    choices = tuple(without.sub("", text).strip() for text in texts)
    if not 2 <= len(choices) <= len(LETTERS) or not all(choices):
        raise ValueError(f"{len(choices)} choices; 2 to {len(LETTERS)} with a text are needed")
    if len(set(choices)) < len(choices):
        raise ValueError("two choices are the same")
    return choices
