"""Data directories of classification: each utterance has one label, which is its text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.published import warn_unpublished

SLOT_SEPARATOR = "+"  # between the slots of one label


@dataclass(frozen=True)
class Labelled:
    """An utterance; ``label`` is one word, ``path`` its audio."""

    utterance: str
    speaker: str
    label: str
    path: Path


def write_sets(
    out_dir: str | Path,
    sets: Mapping[str, Sequence[Labelled]],
    published: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Write a data directory for each set and return their numbers of utterances.

    Args:
        out_dir: folder of the data directories.
        sets: name -> utterances.
        published: name -> number of utterances in the published corpus; another one is logged as a
            warning.

    Raises:
        FileNotFoundError: audio is missing.
        ValueError: a set is empty, or has one name twice.
    """
    for name, chosen in sets.items():
        if not chosen:
            raise ValueError(f"{name} would be empty; is the corpus complete?")
        twice = [key for key, number in Counter(e.utterance for e in chosen).items() if number > 1]
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
            "wav.scp": {each.utterance: str(each.path.resolve()) for each in chosen},
            "text": {each.utterance: each.label for each in chosen},
            "utt2spk": {each.utterance: each.speaker for each in chosen},
        }
        data_dir.write_dir(Path(out_dir) / name, tables)
    return {name: len(chosen) for name, chosen in sets.items()}


def held_out(items: Iterable[Labelled], share: float) -> set[str]:
    """The names of that share of the utterances, by a hash of their names."""
    ordered = sorted((each.utterance for each in items), key=data_dir.hash_key)
    return set(ordered[: round(share * len(ordered))])
