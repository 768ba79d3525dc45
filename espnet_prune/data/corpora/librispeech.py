"""LibriSpeech: data directories of its subsets, and those of SUPERB's PR and ASR.

    <corpus>[/LibriSpeech]/<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac
    <corpus>[/LibriSpeech]/<subset>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt

V. Panayotov et al., "LibriSpeech: an ASR corpus based on public domain audio books", 2015.

SUPERB trains on train-clean-100, chooses on dev-clean and tests on test-clean. The transcripts of
PR are phones from a lexicon: the first pronunciation of each word, vowels with their stress, and
nothing between words. That is what s3prl does (downstream/ctc/corpus/libriphone.py) with its two
files librispeech-lexicon-200k-g2p.txt and, for words that are not in it,
librispeech-lexicon-allothers-g2p.txt, so that published figures are with these. LibriSpeech's own
lexicon (librispeech-lexicon.txt of OpenSLR 11) has the same form; words that it lacks need a second
file with either.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from espnet_prune.data import data_dir
from espnet_prune.data.corpora import common
from espnet_prune.files.writing import write_text

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
SUPERB = ("train-clean-100", "dev-clean", "test-clean")
#: File of the words without pronunciation, in the folder of the data directories.
MISSING_WORDS = "missing_words.txt"

Lexicon = dict[str, str]


def find_root(corpus: str | Path) -> Path:
    """The folder of the subsets: `corpus`, or LibriSpeech in it, as the archives unpack."""
    advice = "nor another subset; LIBRISPEECH of db.sh names the right directory"
    return common.find_folder(corpus, "LIBRISPEECH", ("LibriSpeech", "."), sorted(SUBSETS), advice)


def data_name(subset: str) -> str:
    """Name of a subset's data directory, as ESPnet's recipes have it: dev-clean is dev_clean."""
    return subset.replace("-", "_")


def read_subset(folder: str | Path) -> list[common.Utterance]:
    """The utterances of a subset; the reader is the speaker.

    A recording without a transcript is an error; a subset without all of its published utterances
    is logged as a warning.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such directory; unpack {folder.name} there")
    found, silent = [], []
    again = f"unpack {folder.name} again"
    for chapter in tqdm(sorted(folder.glob("*/*/")), folder.name, mininterval=2):
        recordings = sorted(chapter.glob("*.flac"))
        table = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
        if recordings and not table.is_file():
            text = f"missing, the transcripts of {len(recordings)} recordings"
            raise FileNotFoundError(f"{table}: {text}; {again}")
        transcripts = data_dir.optional_table(table)
        for path in recordings:
            text = transcripts.pop(path.stem, "")
            if not text:
                raise ValueError(f"{path}: has no transcript in {table.name}; {again}")
            found.append(common.Utterance(path.stem, chapter.parent.name, text, path))
        silent += transcripts
    if not found:
        raise FileNotFoundError(f"{folder}: has no audio <speaker>/<chapter>/*.flac; {again}")
    if silent:
        text = f"{len(silent)} transcripts have no audio, the first is {silent[0]}"
        logger.warning("%s: %s", folder, text)
    common.warn_unpublished(folder, len(found), SUBSETS.get(folder.name))
    return found


def _folders_of(corpus: str | Path, subsets: Sequence[str]) -> list[Path]:
    """Folders of subsets, all of which have to be there."""
    root = find_root(corpus)
    absent = [name for name in subsets if not (root / name).is_dir()]
    if absent:
        hint = ", or say --train_hours 100" if absent[0] in TRAINING[960][1:] else ""
        text = f"no such directory; unpack {', '.join(absent)} in {root}{hint}"
        raise FileNotFoundError(f"{root / absent[0]}: {text}")
    return [root / name for name in subsets]


def prepare(corpus: str | Path, out_dir: str | Path, train_hours: int = 960) -> dict[str, int]:
    """Write the data directories and return their numbers of utterances.

    One for each subset that is needed, `dev` of both development sets and, for 960 hours,
    `train_960` of all training sets. Subsets that are not needed may be absent.

    Args:
        train_hours: a key of `TRAINING`.
    """
    if train_hours not in TRAINING:
        choices = " or ".join(map(str, TRAINING))
        raise ValueError(f"--train_hours is {train_hours}, choose {choices}")
    out_dir = Path(out_dir)
    numbers: dict[str, int] = {}
    for folder in _folders_of(corpus, (*TRAINING[train_hours], *DEVELOPMENT, *TEST)):
        numbers |= common.write_sets(out_dir, {data_name(folder.name): read_subset(folder)})
    unions = {"dev": DEVELOPMENT}
    if len(TRAINING[train_hours]) > 1:
        unions[f"train_{train_hours}"] = TRAINING[train_hours]
    for name, parts in unions.items():
        data_dir.combine(out_dir / name, [out_dir / data_name(part) for part in parts])
        numbers[name] = sum(numbers[data_name(part)] for part in parts)
    return numbers


def read_lexicon(paths: Sequence[str | Path]) -> Lexicon:
    """Word -> its phones with spaces between, from `WORD PHONE PHONE …` lines.

    Of several pronunciations the first one is taken, in the order of the files and their lines. A
    word without phones is as if it were not there; files without any pronunciation are an error.
    """
    lexicon: Lexicon = {}
    for path in paths:
        for _, words in common.read_fields(path, "LIBRISPEECH_LEXICON of db.sh names it"):
            if len(words) > 1:
                lexicon.setdefault(words[0], " ".join(words[1:]))
    if paths and not lexicon:
        names = ", ".join(map(str, paths))
        raise ValueError(f"{names}: no line 'WORD PHONE PHONE …' in it; is it a lexicon?")
    return lexicon


def phones_of(text: str, lexicon: Lexicon) -> str:
    """The phones of a text's words, in a row (KeyError: a word that is not in the lexicon)."""
    return " ".join(lexicon[word] for word in text.split())


def missing_words(texts: Iterable[str], lexicon: Lexicon) -> list[str]:
    """The words of the texts that are not in the lexicon, sorted."""
    return sorted({word for text in texts for word in text.split()} - lexicon.keys())


def prepare_superb(
    corpus: str | Path, out_dir: str | Path, lexicon: Sequence[str | Path] = ()
) -> dict[str, int]:
    """Write train_clean_100, dev_clean and test_clean; returns their numbers of utterances.

    Args:
        lexicon: files of pronunciations: `text` has phones instead of words. Words that are in
            none of them are an error; they are written to `MISSING_WORDS` in `out_dir`.
    """
    pronunciations = read_lexicon(lexicon)
    sets = {data_name(each.name): read_subset(each) for each in _folders_of(corpus, SUPERB)}
    if pronunciations:
        texts = [each.text for chosen in sets.values() for each in chosen]
        path = Path(out_dir) / MISSING_WORDS
        missing = missing_words(texts, pronunciations)
        if missing:
            write_text(path, "".join(f"{word}\n" for word in missing))
            examples = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            names = ", ".join(map(str, lexicon))
            text = f"{len(missing)} words of {', '.join(SUPERB)} have no pronunciation there"
            advice = "add a lexicon that has them to LIBRISPEECH_LEXICON of db.sh"
            raise ValueError(f"{names}: {text} ({examples}; all in {path}); {advice}")
        path.unlink(missing_ok=True)
        sets = {
            name: [replace(each, text=phones_of(each.text, pronunciations)) for each in chosen]
            for name, chosen in sets.items()
        }
    return common.write_sets(out_dir, sets)
