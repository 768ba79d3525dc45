"""A corpus as it is published: its folder, its lists, and how much of it there is."""

from __future__ import annotations

import logging
from pathlib import Path

from espnet_prune.files.reading import read_lines

logger = logging.getLogger(__name__)


def require_dir(path: str | Path, variable: str) -> Path:
    """The directory, if it is one.

    Raises:
        FileNotFoundError: it is none; the message names the variable of db.sh.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such directory; {variable} of db.sh names it")
    return path


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


def warn_unpublished(
    place: str | Path, number: int, published: int | None, what: str = "utterances"
) -> None:
    """Log a warning when there are more or fewer of something than the corpus has as published.

    Args:
        place: where they are, for the message.
        published: None where that is not known.
    """
    if published is not None and number != published:
        logger.warning(
            "%s: has %d %s instead of the published %d; results will not compare with others'",
            place,
            number,
            what,
            published,
        )
