"""Data directories of LibriSpeech from the corpus as it is published.

    <corpus>[/LibriSpeech]/<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac
    <corpus>[/LibriSpeech]/<subset>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt

V. Panayotov et al., "LibriSpeech: an ASR corpus based on public domain audio books", 2015.
"""

from __future__ import annotations

import logging
from pathlib import Path

from tqdm import tqdm

from espnet_prune.data import data_dir

logger = logging.getLogger(__name__)

#: Subset -> its number of utterances as published.
SUBSETS = {
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
}
#: Hours of training audio -> the subsets that make them up.
TRAINING = {
    960: ("train-clean-100", "train-clean-360", "train-other-500"),
    100: ("train-clean-100",),
}
DEVELOPMENT = ("dev-clean", "dev-other")
TEST = ("test-clean", "test-other")


def find_root(corpus: str | Path) -> Path:
    """The folder of the subsets: `corpus`, or LibriSpeech in it, as the archives unpack.

    Raises:
        FileNotFoundError: no such directory, or no subset in it.
    """
    corpus = Path(corpus)
    if not corpus.is_dir():
        raise FileNotFoundError(f"{corpus}: no such directory; LIBRISPEECH of db.sh names it")
    for root in (corpus / "LibriSpeech", corpus):
        if any((root / name).is_dir() for name in SUBSETS):
            return root
    raise FileNotFoundError(
        f"{corpus}: LibriSpeech is not in it, neither {corpus}/LibriSpeech/dev-clean nor "
        f"{corpus}/dev-clean nor another subset; LIBRISPEECH of db.sh names the right directory"
    )


def data_name(subset: str) -> str:
    """Name of a subset's data directory, as ESPnet's recipes have it: dev-clean is dev_clean."""
    return subset.replace("-", "_")


def read_subset(folder: str | Path) -> dict[str, data_dir.Table]:
    """The tables wav.scp, text and utt2spk of a subset; the reader is the speaker.

    A subset without all of its published utterances is logged as a warning.

    Raises:
        FileNotFoundError: no such subset, no audio in it, or a chapter without transcripts.
        ValueError: a recording without a transcript, or transcripts that cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such directory; unpack {folder.name} there")
    tables: dict[str, data_dir.Table] = {"wav.scp": {}, "text": {}, "utt2spk": {}}
    silent: list[str] = []
    for speaker in tqdm(_folders(folder), folder.name, mininterval=2):
        for chapter in _folders(speaker):
            recordings = sorted(chapter.glob("*.flac"))
            transcripts = _transcripts(chapter, len(recordings))
            for path in recordings:
                text = transcripts.pop(path.stem, "")
                if not text:
                    raise ValueError(
                        f"{path}: has no transcript in {speaker.name}-{chapter.name}.trans.txt; "
                        f"unpack {folder.name} again"
                    )
                tables["wav.scp"][path.stem] = str(path.resolve())
                tables["text"][path.stem] = text
                tables["utt2spk"][path.stem] = speaker.name
            silent += transcripts
    if not tables["text"]:
        raise FileNotFoundError(
            f"{folder}: has no audio <speaker>/<chapter>/*.flac; unpack {folder.name} there"
        )
    _warn_of_gaps(folder, len(tables["text"]), silent)
    return tables


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _transcripts(chapter: Path, number: int) -> data_dir.Table:
    """Transcripts of a chapter with so many recordings, by utterance."""
    path = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
    if path.is_file():
        return data_dir.read_table(path)
    if not number:
        return {}
    raise FileNotFoundError(
        f"{path}: missing, the transcripts of {number} recordings; unpack "
        f"{chapter.parent.parent.name} again"
    )


def _warn_of_gaps(folder: Path, number: int, silent: list[str]) -> None:
    if silent:
        logger.warning(
            "%s: %d transcripts have no audio, the first is %s", folder, len(silent), silent[0]
        )
    published = SUBSETS.get(folder.name, number)
    if number != published:
        logger.warning(
            "%s: has %d utterances instead of the published %d; results will not compare with "
            "others'",
            folder,
            number,
            published,
        )


def prepare(corpus: str | Path, out_dir: str | Path, train_hours: int = 960) -> dict[str, int]:
    """Write the data directories and return their numbers of utterances.

    One for each subset that is needed, `dev` of both development sets and, for 960 hours,
    `train_960` of all training sets. Subsets that are not needed may be absent.

    Args:
        corpus: see `find_root`.
        out_dir: folder of the data directories.
        train_hours: a key of `TRAINING`.

    Raises:
        FileNotFoundError, ValueError: as `find_root` and `read_subset`, or no such training set.
    """
    if train_hours not in TRAINING:
        choices = " or ".join(map(str, TRAINING))
        raise ValueError(f"--train_hours is {train_hours}, choose {choices}")
    root, out_dir = find_root(corpus), Path(out_dir)
    wanted = (*TRAINING[train_hours], *DEVELOPMENT, *TEST)
    absent = [name for name in wanted if not (root / name).is_dir()]
    if absent:
        hint = ", or say --train_hours 100" if absent[0] in TRAINING[960][1:] else ""
        raise FileNotFoundError(
            f"{root / absent[0]}: no such directory; unpack {', '.join(absent)} in {root}{hint}"
        )
    numbers = {}
    for name in wanted:
        tables = read_subset(root / name)
        data_dir.write_dir(out_dir / data_name(name), tables)
        numbers[data_name(name)] = len(tables["text"])
    unions = {"dev": DEVELOPMENT}
    if len(TRAINING[train_hours]) > 1:
        unions[f"train_{train_hours}"] = TRAINING[train_hours]
    for name, parts in unions.items():
        data_dir.combine(out_dir / name, [out_dir / data_name(part) for part in parts])
        numbers[name] = sum(numbers[data_name(part)] for part in parts)
    return numbers
