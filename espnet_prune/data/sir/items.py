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

import contextlib
import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from espnet_prune.files.reading import read_lines
from espnet_prune.files.writing import write_text

LETTERS = "ABCDEFGH"
_LETTER = re.compile(r"^([A-H])[.)]\s*")


@dataclass(frozen=True)
class SirItem:
    """One question about one recording.

    Attributes:
        id: unique, without blanks.
        kind: lecture, meeting or conversation.
        sentences: (speaker, sentence) in the order in which they are spoken; blanks are the only
            white space in a sentence.
        key: numbers of the sentences that hold the answer, [first, last + 1); None where they are
            not known and nobody asked for them.
        question: without choices.
        choices: their texts without letters.
        answer: number of the right one.
    """

    id: str
    kind: str
    sentences: tuple[tuple[str, str], ...]
    key: tuple[int, int] | None
    question: str
    choices: tuple[str, ...]
    answer: int

    @property
    def transcript(self) -> str:
        """All sentences, one after another."""
        return " ".join(sentence for _, sentence in self.sentences)


@contextlib.contextmanager
def located(where: str) -> Iterator[None]:
    """Have errors of reading a JSON row say where it is, as ValueError."""
    try:
        yield
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON: {error}") from None
    except KeyError as error:
        raise ValueError(f"{where}: key {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def text_of(value, what: str) -> str:
    """
    Raises:
        ValueError: a value that is no text, as JSON's null is none.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} is {value!r}, but has to be text")
    return value


def list_of(value, what: str) -> list:
    """
    Raises:
        ValueError: a value that is no list.
    """
    if not isinstance(value, list):
        raise ValueError(f"{what} is {value!r}, but has to be a list")
    return value


def choice_texts(value) -> list[str]:
    """The texts of choices.

    Raises:
        ValueError: no list of texts.
    """
    return [text_of(choice, "a choice") for choice in list_of(value, "what is to choose from")]


def check_choices(choices: Sequence[str]) -> None:
    """
    Raises:
        ValueError: too few or too many choices, one without a text, or two that are the same.
    """
    if not 2 <= len(choices) <= len(LETTERS) or not all(choices):
        raise ValueError(f"{len(choices)} choices; 2 to {len(LETTERS)} with a text are needed")
    if len(set(choices)) < len(choices):
        raise ValueError("two choices are the same")


def read_items(path: str | Path, keys: bool = True) -> list[SirItem]:
    """Items of a JSONL file in SPIRAL's format, in the order of the file.

    Args:
        keys: whether every item has to have its key sentence, once in its transcript; otherwise
            `key` is None where it has not.
    Raises:
        FileNotFoundError: no such file.
        ValueError: a line that is no item, with what is wrong; an id that is there twice.
    """
    items: dict[str, SirItem] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        with located(f"{path}: line {number}"):
            item = _item(json.loads(line), keys)
        if item.id in items:
            raise ValueError(f"{path}: line {number}: id '{item.id}' is there twice")
        items[item.id] = item
    if not items:
        raise ValueError(f"{path}: no items in it")
    return list(items.values())


def _item(row: dict, keys: bool) -> SirItem:
    metadata, asked = row["metadata"], row["test_question"]
    name = text_of(metadata["id"], "the id")
    if not name or any(c.isspace() or c == "/" for c in name):
        raise ValueError(f"id '{name}' cannot be a file's name")
    sentences = tuple(
        (str(turn["speaker"]), " ".join(text_of(sentence, "a sentence").split()))
        for turn in row["transcript"]
        for sentence in list_of(turn["text"], "a turn's text")
    )
    if not sentences or not all(text for _, text in sentences):
        raise ValueError(f"{name}: a transcript or a sentence of it is empty")
    question = text_of(asked["question"], "the question").strip()
    if not question:
        raise ValueError(f"{name}: the question has no text")
    choices = [_LETTER.sub("", text).strip() for text in choice_texts(asked["choices"])]
    with located(name):
        check_choices(choices)
    try:
        key = _key(
            text_of(row["original_key_sentence"], "the key"), [text for _, text in sentences], name
        )
    except (KeyError, ValueError):
        if keys:
            raise
        key = None
    return SirItem(
        id=name,
        kind=str(metadata.get("transcript_type", "")),
        sentences=sentences,
        key=key,
        question=question,
        choices=tuple(choices),
        answer=_answer(text_of(asked["correct_answer"], "the answer"), choices, name),
    )


def _answer(correct: str, choices: list[str], name: str) -> int:
    text = _LETTER.sub("", correct).strip()
    if text in choices:
        return choices.index(text)
    letter = correct.strip().rstrip(".)")
    if len(letter) == 1 and letter in LETTERS[: len(choices)]:
        return LETTERS.index(letter)
    raise ValueError(f"{name}: the correct answer '{correct}' is not among the choices")


def _key(key: str, sentences: list[str], name: str) -> tuple[int, int]:
    """Where the words of the key are, whatever their case and punctuation."""
    spoken = [(word, n) for n, sentence in enumerate(sentences) for word in _words(sentence)]
    wanted = _words(key)
    found = [
        start
        for start in range(len(spoken) - len(wanted) + 1)
        if wanted and [word for word, _ in spoken[start : start + len(wanted)]] == wanted
    ]
    if len(found) != 1:
        raise ValueError(f"{name}: the key sentence is {len(found)} times in the transcript")
    return spoken[found[0]][1], spoken[found[0] + len(wanted) - 1][1] + 1


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def shuffled(item: SirItem, seed: int = 0) -> SirItem:
    """The item with its choices in an order drawn by seed and id (not by its place in a file).

    In the published rows the right letter is B in 603 of 1,012 cases, so that always saying B
    scores almost what the paper's unpruned model does.
    """
    digest = hashlib.blake2b(f"{seed} {item.id}".encode(), digest_size=8).digest()
    order = list(range(len(item.choices)))
    random.Random(int.from_bytes(digest, "big")).shuffle(order)
    return replace(
        item,
        choices=tuple(item.choices[n] for n in order),
        answer=order.index(item.answer),
    )


def write_questions(path: str | Path, items: Iterable[SirItem]) -> None:
    """Write a questions file, `id<blank>JSON` a line as in a Kaldi-style table, sorted by id.

    The JSON has `question`, `choices` (texts) and `answer` (number of the right one).
    """
    lines = []
    for item in sorted(items, key=lambda item: item.id):
        asked = {"question": item.question, "choices": item.choices, "answer": item.answer}
        lines.append(f"{item.id} {json.dumps(asked, ensure_ascii=False)}\n")
    write_text(path, "".join(lines))
