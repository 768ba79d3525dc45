"""Data directories of SUPERB's PR and ASR: LibriSpeech's 100 clean hours, with phones or words.

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
from pathlib import Path

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.librispeech import data_name, find_root, read_subset
from espnet_prune.files.reading import read_lines
from espnet_prune.files.writing import write_text

logger = logging.getLogger(__name__)

SUBSETS = ("train-clean-100", "dev-clean", "test-clean")
#: File of the words without pronunciation, in the folder of the data directories.
MISSING_WORDS = "missing_words.txt"

Lexicon = dict[str, str]


def read_lexicon(paths: Iterable[str | Path]) -> Lexicon:
    """Word -> its phones with spaces between, from `WORD PHONE PHONE …` lines.

    Of several pronunciations the first one is taken, in the order of the files and their lines. A
    word without phones is as if it were not there.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file is not UTF-8 text, or no word has a pronunciation.
    """
    lexicon: Lexicon = {}
    paths = [Path(path) for path in paths]
    for path in paths:
        for line in read_lines(path, "LIBRISPEECH_LEXICON of db.sh names it"):
            word, *phones = line.split() or [""]
            if phones:
                lexicon.setdefault(word, " ".join(phones))
    if not lexicon:
        raise ValueError(f"{_names(paths)}: no line 'WORD PHONE PHONE …' in it; is it a lexicon?")
    return lexicon


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths))


def phones_of(text: str, lexicon: Lexicon) -> str:
    """The phones of a text's words, in a row (KeyError: a word that is not in the lexicon)."""
    return " ".join(lexicon[word] for word in text.split())


def missing_words(texts: Iterable[str], lexicon: Lexicon) -> list[str]:
    """The words of the texts that are not in the lexicon, sorted."""
    return sorted({word for text in texts for word in text.split()} - lexicon.keys())


def prepare(
    corpus: str | Path, out_dir: str | Path, lexicon: Sequence[str | Path] = ()
) -> dict[str, int]:
    """Write train_clean_100, dev_clean and test_clean; returns their numbers of utterances.

    Args:
        corpus: directory that holds LibriSpeech or its subsets.
        out_dir: folder of the data directories.
        lexicon: files of pronunciations: `text` has phones instead of words.

    Raises:
        FileNotFoundError: the corpus, one of the subsets or a lexicon is not there.
        ValueError: a transcript or a lexicon cannot be read, or words are in no lexicon; these are
            written to `MISSING_WORDS` in `out_dir`.
    """
    pronunciations = read_lexicon(lexicon) if lexicon else None
    root, out_dir = find_root(corpus), Path(out_dir)
    absent = [name for name in SUBSETS if not (root / name).is_dir()]
    if absent:
        raise FileNotFoundError(
            f"{root / absent[0]}: no such directory; unpack {', '.join(absent)} in {root}"
        )
    subsets = {name: read_subset(root / name) for name in SUBSETS}
    if pronunciations is not None:
        texts = [text for tables in subsets.values() for text in tables["text"].values()]
        _check_words(missing_words(texts, pronunciations), lexicon, out_dir)
    for name, tables in subsets.items():
        if pronunciations is not None:
            tables["text"] = {
                key: phones_of(text, pronunciations) for key, text in tables["text"].items()
            }
        data_dir.write_dir(out_dir / data_name(name), tables)
    return {data_name(name): len(tables["text"]) for name, tables in subsets.items()}


def _check_words(missing: list[str], lexicon: Sequence[str | Path], out_dir: Path) -> None:
    path = out_dir / MISSING_WORDS
    if not missing:
        path.unlink(missing_ok=True)
        return
    write_text(path, "".join(f"{word}\n" for word in missing))
    examples = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
    raise ValueError(
        f"{_names(Path(p) for p in lexicon)}: {len(missing)} words of {', '.join(SUBSETS)} have no "
        f"pronunciation there ({examples}; all in {path}); add a lexicon that has them to "
        "LIBRISPEECH_LEXICON of db.sh"
    )
