"""Items of SPIRAL: a spoken passage, a question about one sentence of it, choices.

The authors' file has one JSON object a line; of it are read

    transcript             [{"speaker": …, "text": [sentence, …]}, …], turns in order
    original_key_sentence  what holds the answer: its words are found in the transcript, since in
                           the published rows it may be a part of a sentence, or of several;
                           needed for items that are to be spoken, whose evidence has times
    test_question          {"question": …, "choices": ["A. …", …], "correct_answer": "B. …"}
    metadata               {"transcript_type": …, "id": …}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from espnet_prune.data.data_dir import file_name
from espnet_prune.data.sir.questions import (
    LETTERS,
    Question,
    choice_texts,
    list_of,
    located,
    question_text,
    text_of,
)
from espnet_prune.files.reading import parse_json, read_lines

_LETTER = re.compile(rf"^([{LETTERS}])[.)]\s*")


@dataclass(frozen=True)
class SirItem(Question):
    """One question about one recording, and what is said in that.

    Attributes:
        kind: lecture, meeting or conversation.
        sentences: (speaker, sentence) in the order in which they are spoken; blanks are the only
            white space in a sentence.
        key: numbers of the sentences that hold the answer, [first, last + 1); None where they are
            not known and not asked for.
    """

    kind: str
    sentences: tuple[tuple[str, str], ...]
    key: tuple[int, int] | None

    @property
    def transcript(self) -> str:
        """All sentences, one after another."""
        return " ".join(sentence for _, sentence in self.sentences)


def read_items(path: str | Path, keys: bool = True) -> list[SirItem]:
    """Items of a JSONL file in SPIRAL's format, in the order of the file.

    Args:
        keys: whether every item has to have its key sentence, once in its transcript; otherwise
            `key` is None where it has not.
    Raises:
        ValueError: a line that is not an item, with what is wrong; an id twice.
    """
    items: dict[str, SirItem] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        with located(f"{path}: line {number}"):
            item = _item(parse_json(line), keys)
        if item.id in items:
            raise ValueError(f"{path}: line {number}: id '{item.id}' is there twice")
        items[item.id] = item
    if not items:
        raise ValueError(f"{path}: no items in it")
    return list(items.values())


def _item(row: dict, keys: bool) -> SirItem:
    metadata, asked = row["metadata"], row["test_question"]
    name = text_of(metadata["id"], "the id")
    if any(c.isspace() for c in file_name(name)):
        raise ValueError(f"id '{name}' cannot be a file's name: it has blanks")
    with located(name):
        sentences = tuple(
            (str(turn["speaker"]), " ".join(text_of(sentence, "a sentence").split()))
            for turn in row["transcript"]
            for sentence in list_of(turn["text"], "a turn's text")
        )
        if not sentences or not all(text for _, text in sentences):
            raise ValueError("a transcript or a sentence of it is empty")
        question = question_text(asked["question"])
        choices = choice_texts(asked["choices"], without=_LETTER)
        try:
            key = _key(text_of(row["original_key_sentence"], "the key"), sentences)
        except (KeyError, ValueError):
            if keys:
                raise
            key = None
        answer = _answer(text_of(asked["correct_answer"], "the answer"), choices)
    kind = str(metadata.get("transcript_type", ""))
    return SirItem(name, question, choices, answer, kind, sentences, key)


def _answer(correct: str, choices: tuple[str, ...]) -> int:
    text = _LETTER.sub("", correct).strip()
    if text in choices:
        return choices.index(text)
    letter = correct.strip().rstrip(".)")
    if len(letter) == 1 and letter in LETTERS[: len(choices)]:
        return LETTERS.index(letter)
    raise ValueError(f"the correct answer '{correct}' is not among the choices")


def _key(key: str, sentences: tuple[tuple[str, str], ...]) -> tuple[int, int]:
    """Where the words of the key are, whatever their case and punctuation."""
    spoken = [(word, n) for n, (_, text) in enumerate(sentences) for word in _words(text)]
    words, wanted = [word for word, _ in spoken], _words(key)
    starts = range(len(words) - len(wanted) + 1 if wanted else 0)
    found = [start for start in starts if words[start : start + len(wanted)] == wanted]
    if len(found) != 1:
        raise ValueError(f"the key sentence is {len(found)} times in the transcript")
    return spoken[found[0]][1], spoken[found[0] + len(wanted) - 1][1] + 1


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
