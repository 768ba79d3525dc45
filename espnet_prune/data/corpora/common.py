"""What corpora share: utterances and their sets, and the corpus as it is published.

All functions that read corpora raise FileNotFoundError where the corpus or a file of it is missing,
and ValueError where a file is malformed, lacks something, or has it twice.
"""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_prune.data import data_dir
from espnet_prune.files.reading import read_lines, read_text

logger = logging.getLogger(__name__)

SLOT_SEPARATOR = "+"  # between the slots of one label


@dataclass(frozen=True)
class Utterance:
    """An utterance of a corpus: ``text`` is its transcript or its label, or empty."""

    name: str
    speaker: str
    text: str
    path: Path


def write_sets(
    out_dir: str | Path,
    sets: Mapping[str, Sequence[Utterance]],
    published: Mapping[str, int] | None = None,
    tables: Mapping[str, Mapping[str, Mapping]] | None = None,
) -> dict[str, int]:
    """Write a data directory for each set and return their numbers of utterances.

    Args:
        out_dir: folder of the data directories.
        sets: name -> utterances; the set has a table text unless one of them has no text.
        published: name -> number of utterances in the published corpus; another one is logged as a
            warning.
        tables: name -> further tables of the set.
    Raises:
        ValueError: also, a data directory is there that was not written here; none is written then.
    """
    for name, chosen in sets.items():
        if not chosen:
            raise ValueError(f"{name} would be empty; is the corpus complete?")
        (twice, number), *_ = Counter(each.name for each in chosen).most_common(1)
        if number > 1:
            raise ValueError(f"{name}: {twice} is there twice")
        gone = [each.path for each in chosen if not each.path.is_file()]
        if gone:
            text = f"no such file ({len(gone)} of the {len(chosen)} of {name} are missing)"
            raise FileNotFoundError(f"{gone[0]}: {text}")
        warn_unpublished(name, len(chosen), (published or {}).get(name))
        data_dir.require_ours(Path(out_dir) / name)
    for name, chosen in sets.items():
        known = {
            "wav.scp": {each.name: str(each.path.resolve()) for each in chosen},
            "text": {each.name: each.text for each in chosen},
            "utt2spk": {each.name: each.speaker for each in chosen},
        }
        if not all(known["text"].values()):
            del known["text"]
        data_dir.write_dir(Path(out_dir) / name, {**known, **(tables or {}).get(name, {})})
    return {name: len(chosen) for name, chosen in sets.items()}


def warn_unpublished(
    place: str | Path, number: int, published: int | None, what: str = "utterances"
) -> None:
    """Log a warning when ``place`` has more or fewer of something than the published corpus."""
    if published not in (None, number):
        warn_incomparable(f"{place}: has {number} {what} instead of the published {published}")


def warn_incomparable(what: str) -> None:
    """Log what makes a corpus another one than the published."""
    logger.warning("%s; results will not compare with others'", what)


def require_dir(path: str | Path, variable: str) -> Path:
    """The directory that a variable of db.sh names."""
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such directory; {variable} of db.sh names it")
    return path


def find_folder(
    corpus: str | Path, variable: str, folders: Sequence[str], holds: Sequence[str], advice: str
) -> Path:
    """The first of these folders of a corpus that holds a file or folder of one of the patterns.

    `variable` is that of db.sh which names the corpus.
    """
    corpus = require_dir(corpus, variable)
    for name in folders:
        if any(any((corpus / name).glob(pattern)) for pattern in holds):
            return corpus / name
    raise FileNotFoundError(f"{corpus}: has no {folders[0]}/{holds[0]}; {advice}")


def require_classes(place: object, found: Iterable[Utterance], classes: Iterable[str]) -> None:
    """Check that each class is the text of an utterance."""
    absent = set(classes) - {each.text for each in found}
    if absent:
        raise ValueError(f"{place}: class {min(absent)} has no recordings; unpack it again")


def read_fields(path: str | Path, hint: str = "") -> Iterator[tuple[str, list[str]]]:
    """The words of each line that has some, and before them the line's place for messages.

    A file without words is an error; ``hint`` says what it is.
    """
    rows = [(number, line.split()) for number, line in enumerate(read_lines(path, hint), 1)]
    if not any(words for _, words in rows):
        raise ValueError(f"{path}: is empty{hint and '; '}{hint}")
    return ((f"{path}: line {number}", words) for number, words in rows if words)


def read_csv(
    path: Path, columns: Sequence[str], hint: str = ""
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file, and before each its place for messages.

    A column of `columns` that is missing, or empty in a row, is an error.
    """
    rows = csv.DictReader(io.StringIO(read_text(path, hint)))
    try:
        absent = [name for name in columns if name not in (rows.fieldnames or ())]
    except csv.Error as error:
        raise ValueError(f"{path}: line 1: not CSV: {error}") from None
    if absent:
        raise ValueError(f"{path}: has no column {absent[0]}")
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise ValueError(f"{path}: line {rows.line_num}: not CSV: {error}") from None
        if row is None:
            return
        empty = [name for name in columns if not row[name]]
        if empty:
            raise ValueError(f"{path}: line {rows.line_num}: column {empty[0]} is empty")
        yield f"{path}: line {rows.line_num}", row


def leave_one_out(
    groups: Sequence[list[Utterance]], validation: Callable[[list[Utterance]], set[str]]
) -> dict[str, list[Utterance]]:
    """The sets of as many folds as there are groups.

    In fold N (from 1) ``test_foldN`` is the N-th group; of the others ``valid_foldN`` has those
    that ``validation`` names, and ``train_foldN`` the rest.
    """
    sets: dict[str, list[Utterance]] = {}
    for fold, group in enumerate(groups, 1):
        others = [each for other in groups if other is not group for each in other]
        valid = validation(others)
        sets[f"train_fold{fold}"] = [each for each in others if each.name not in valid]
        sets[f"valid_fold{fold}"] = [each for each in others if each.name in valid]
        sets[f"test_fold{fold}"] = group
    return sets
