"""Questions about the recordings of a data directory, as `write_questions` writes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from espnet_prune.data.data_dir import read_table
from espnet_prune.data.sir.items import check_choices, choice_texts, located, text_of


@dataclass(frozen=True)
class Question:
    """What is asked about one recording.

    Attributes:
        id: of the recording.
        question: without choices.
        choices: their texts.
        answer: number of the right one.
    """

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int


def read_questions(path: str | Path) -> dict[str, Question]:
    """A questions file: `id<blank>JSON` a line with `question`, `choices` and `answer`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is no question, with its id and what is wrong.
    """
    found = {}
    for name, value in read_table(path).items():
        with located(f"{path}: {name}"):
            found[name] = _question(name, json.loads(value))
    if not found:
        raise ValueError(f"{path}: no questions in it")
    return found


def _question(name: str, row: dict) -> Question:
    question, choices, answer = row["question"], row["choices"], row["answer"]
    if not text_of(question, "the question").strip():
        raise ValueError("the question has no text")
    texts = [text.strip() for text in choice_texts(choices)]
    check_choices(texts)
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(texts):
        raise ValueError(f"the answer is {answer!r}, but has to be 0 to {len(texts) - 1}")
    return Question(name, question.strip(), tuple(texts), answer)
