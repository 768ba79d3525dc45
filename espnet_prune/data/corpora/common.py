"""What corpora share: utterances and their sets, and the corpus as it is published."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_prune.data import data_dir
from espnet_prune.files.reading import read_lines

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
) -> dict[str, int]:
    """Write a data directory for each set and return their numbers of utterances.

    Args:
        out_dir: folder of the data directories.
        sets: name -> utterances; the set has a table text unless one of them has no text.
        published: name -> number of utterances in the published corpus; another one is logged as a
            warning.

    Raises:
        FileNotFoundError: audio is missing.
        ValueError: a set is empty, or has one name twice.
    """
    for name, chosen in sets.items():
        if not chosen:
            raise ValueError(f"{name} would be empty; is the corpus complete?")
        twice = [key for key, number in Counter(e.name for e in chosen).items() if number > 1]
        if twice:
            raise ValueError(f"{name}: {twice[0]} is there twice")
        gone = [each.path for each in chosen if not each.path.is_file()]
        if gone:
            raise FileNotFoundError(
                f"{gone[0]}: no such file ({len(gone)} of the {len(chosen)} of {name} are missing)"
            )
        warn_unpublished(name, len(chosen), (published or {}).get(name))
    for name, chosen in sets.items():
        tables = {
            "wav.scp": {each.name: str(each.path.resolve()) for each in chosen},
            "text": {each.name: each.text for each in chosen},
            "utt2spk": {each.name: each.speaker for each in chosen},
        }
        if not all(tables["text"].values()):
            del tables["text"]
        data_dir.write_dir(Path(out_dir) / name, tables)
    return {name: len(chosen) for name, chosen in sets.items()}


def warn_unpublished(
    place: str | Path, number: int, published: int | None, what: str = "utterances"
) -> None:
    """Log a warning when ``place`` has more or fewer of something than the published corpus."""
    if published is not None and number != published:
        logger.warning(
            "%s: has %d %s instead of the published %d; results will not compare with others'",
            place,
            number,
            what,
            published,
        )


def require_dir(path: str | Path, variable: str) -> Path:
    """The directory, if it is one.

    Raises:
        FileNotFoundError: it is none; the message names the variable of db.sh.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such directory; {variable} of db.sh names it")
    return path


def find_folder(
    corpus: str | Path,
    variable: str,
    folders: Iterable[str],
    holds: Callable[[Path], bool],
    missing: str,
) -> Path:
    """The first of these folders of a corpus that holds what it has to.

    Args:
        variable: of db.sh, which names the corpus.
        missing: the message where none does.

    Raises:
        FileNotFoundError: no such directory, or none of the folders holds it.
    """
    corpus = require_dir(corpus, variable)
    for name in folders:
        if holds(corpus / name):
            return corpus / name
    raise FileNotFoundError(f"{corpus}: {missing}")


def read_list(path: Path, what: str) -> list[str]:
    """The lines of a list that comes with a corpus, without empty ones.

    Args:
        what: what it is a list of, for the message.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is empty.
    """
    lines = [line.strip() for line in read_lines(path, f"it is the corpus' list of {what}")]
    lines = [line for line in lines if line]
    if not lines:
        raise ValueError(f"{path}: is empty, but has to list {what}")
    return lines


def held_out(items: Iterable[Utterance], share: float) -> set[str]:
    """The names of that share of the utterances, by a hash of their names."""
    ordered = sorted((each.name for each in items), key=data_dir.hash_key)
    return set(ordered[: round(share * len(ordered))])
