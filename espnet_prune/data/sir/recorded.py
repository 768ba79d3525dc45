"""Data directories for SIR from recordings that a corpus publishes, with questions about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from espnet_prune.data.audio import (
    SAMPLING_RATE,
    at_rate,
    length_of,
    read_speech,
    write_speech,
    written_samples,
)
from espnet_prune.data.corpora.common import warn_incomparable
from espnet_prune.data.data_dir import claim, remove_dir, require_ours, write_dir
from espnet_prune.data.sir.directory import segments_dir, write_part
from espnet_prune.data.sir.questions import LETTERS, Question, located, write_questions

Row = TypeVar("Row")

#: SpeechPrune's other sets are of recordings that are longer, in seconds
LONG_SECONDS = 60
_LETTERED = re.compile(rf"(?:^|\n)\s*\(?([{LETTERS}])[).][ \t]*")


def lettered(text: str) -> list[str]:
    """Choices of a text that has one a line behind "(A)", "B)" or "C.", in order; a semicolon at
    the end of one belongs to the list (ValueError: other letters, or none).

    >>> lettered("(A) Red;\\n(B) Green.")
    ['Red', 'Green.']
    """
    head, *parts = _LETTERED.split(text)
    letters, choices = parts[::2], parts[1::2]
    if head.strip() or not letters or letters != list(LETTERS[: len(letters)]):
        raise ValueError(f"the choices are {text!r}, but have to be '(A) …', '(B) …' and so on")
    return [choice.strip().removesuffix(";").rstrip() for choice in choices]


def place_of_answer(answer: str, choices: Sequence[str]) -> int:
    """Which of the choices an answer is: its text, with its letter before it or not, or the letter
    (ValueError: none of them)."""
    said = answer.strip()
    if said in choices:
        return list(choices).index(said)
    letter, _, text = _LETTERED.sub(r"\1\n", said, count=1).partition("\n")
    if letter in LETTERS[: len(choices)] and letter:
        place = LETTERS.index(letter)
        if text.strip().removesuffix(";").rstrip() in ("", choices[place]):
            return place
    raise ValueError(f"the answer '{answer}' is not among the choices")


def convert(source: Path, target: Path) -> None:
    """Write a recording as FLAC of 16 kHz, its channels mixed; one that is there stays."""
    if written_samples(target, SAMPLING_RATE) is None:
        samples, rate = read_speech(source, mix=True)
        write_speech(target, at_rate(samples, rate, source, SAMPLING_RATE), SAMPLING_RATE)


def begin_dir(directory: Path) -> Path:
    """A data directory that may be written; returns its folder for recordings."""
    require_ours(directory)
    claim(directory)
    remove_dir(segments_dir(directory))
    folder = directory / "wav"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def end_dir(
    directory: Path, questions: Sequence[Question], recordings: Mapping[str, Path]
) -> dict[str, int]:
    """Write the tables of a data directory, and beside it one, NAME_60s, with the recordings of
    more than `LONG_SECONDS`, if there are any.

    Args:
        recordings: id of a question -> file of `convert`.
    Returns: name of each -> number of questions.
    """
    ids = sorted(question.id for question in questions)
    samples = {path: length_of(path)[0] for path in set(recordings.values())}
    tables = {
        "wav.scp": {name: recordings[name] for name in ids},
        "utt2spk": {name: name for name in ids},
        "utt2num_samples": {name: samples[recordings[name]] for name in ids},
    }
    write_dir(directory, tables)
    (directory / "sentences").unlink(missing_ok=True)  # of what was spoken there before
    write_questions(directory / "questions", questions)
    found = {directory.name: len(ids)}
    limit = LONG_SECONDS * SAMPLING_RATE
    longer = [name for name in ids if samples[recordings[name]] > limit]
    if longer:
        part = directory.with_name(f"{directory.name}_{LONG_SECONDS}s")
        write_part(directory, part, longer)
        found[part.name] = len(longer)
    return found


def questions_of(
    rows: Iterable[tuple[str, Row]], read: Callable[[str, Row], Question], where: str | Path
) -> Iterator[tuple[Question, Row]]:
    """Those rows of a published corpus that are questions, each with its row.

    What is no question (two choices that are the same, an answer that is not among them) is left
    out, and the log says how many and why the first; that all are is a ValueError.

    Args:
        rows: names and rows.
        read: makes a question of both; a ValueError or KeyError says what is wrong.
    """
    wrong: list[str] = []
    number = 0
    for name, row in rows:
        number += 1
        try:
            with located(name):
                question = read(name, row)
        except ValueError as error:
            wrong.append(str(error))
            continue
        yield question, row
    if not number or len(wrong) == number:
        raise ValueError(
            f"{where}: has no question in it{wrong and ': '}{wrong[0] if wrong else ''}"
        )
    if wrong:
        text = f"{len(wrong)} of {number} questions are left out, the first because {wrong[0]}"
        warn_incomparable(f"{where}: {text}")
