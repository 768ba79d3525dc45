"""Query-by-example search in QUESST 2014, from the database as it is published.

    <corpus>[/quesst14Database]/scoring/language_key_{utterances,dev,eval}.lst
        lines "path language", paths from the folder above Audio, dev_queries and eval_queries
    <corpus>[/quesst14Database]/scoring/groundtruth_quesst14_{dev,eval}/quesst14_{dev,eval}.rttm
        lines "LEXEME document channel begin duration query …", one for each document that holds
        the query

X. Anguera et al., "Query by example search on speech at MediaEval 2014", 2014. SUPERB takes the
English queries and documents only (language nnenglish; s3prl, downstream/quesst14_dtw).
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.common import Utterance, find_folder, write_sets
from espnet_prune.files.reading import read_lines

logger = logging.getLogger(__name__)

LANGUAGE = "nnenglish"
UNPACK = "unpack quesst14Database.tgz again"
#: Data directory -> list of its audio. Documents are searched, dev and eval are queries.
LISTS = {"documents": "utterances", "dev": "dev", "eval": "eval"}


def find_root(corpus: str | Path) -> Path:
    """The folder that has Audio and scoring (FileNotFoundError: it is not there)."""
    return find_folder(
        corpus,
        "QUESST14",
        ("quesst14Database", "."),
        lambda folder: (folder / "scoring").is_dir(),
        "has no folder quesst14Database/scoring; unpack quesst14Database.tgz there",
    )


def read_list(root: Path, name: str) -> dict[str, Path]:
    """Name -> file of the English audio in a list; a name is the file's, without its suffix.

    A list that has fewer recordings than the folders they lie in is warned of.

    Raises:
        FileNotFoundError: the list or a file in it is missing.
        ValueError: a line is malformed, a name is there twice, or nothing is English.
    """
    path = root / "scoring" / f"language_key_{name}.lst"
    files: dict[str, Path] = {}
    folders: Counter[Path] = Counter()
    for number, line in enumerate(read_lines(path, UNPACK), 1):
        fields = line.split()
        if len(fields) != 2 or "/" not in fields[0]:
            raise ValueError(f"{path}: line {number}: not 'path language'")
        file = root / fields[0].partition("/")[2]
        folders[file.parent] += 1
        if fields[1] != LANGUAGE:
            continue
        if not file.is_file():
            raise FileNotFoundError(f"{file}: missing, but line {number} of {path} has it")
        if file.stem in files:
            raise ValueError(f"{path}: line {number}: {file.stem} is there twice")
        files[file.stem] = file.resolve()
    if not files:
        raise ValueError(f"{path}: has no audio in language {LANGUAGE}")
    for folder, listed in folders.items():
        there = sum(1 for _ in folder.glob("*.wav"))
        if listed < there:
            logger.warning(
                "%s: has %d recordings, but %s has %d; unless that is meant, unpack "
                "quesst14Database.tgz again: results will not compare with others'",
                path,
                listed,
                folder,
                there,
            )
    return files


def read_ground_truth(path: Path) -> dict[str, set[str]]:
    """Query -> documents that hold it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line of type LEXEME is malformed, or there is none.
    """
    held: dict[str, set[str]] = {}
    for number, line in enumerate(read_lines(path, UNPACK), 1):
        fields = line.split()
        if not fields or fields[0] != "LEXEME":
            continue
        if len(fields) < 6:
            raise ValueError(f"{path}: line {number}: not 'LEXEME document … query …'")
        held.setdefault(fields[5], set()).add(fields[1])
    if not held:
        raise ValueError(f"{path}: has no line of type LEXEME")
    return held


def prepare(corpus: str | Path, out_dir: str | Path) -> dict[str, int]:
    """Write the data directories documents, dev and eval; return their numbers of recordings.

    dev and eval also get the table ref, 'query documents that hold it', with the English documents
    only. A query that none of them holds has a line without documents; scoring leaves it out.

    Args:
        corpus: see `find_root`.
        out_dir: folder of the data directories.

    Raises:
        FileNotFoundError, ValueError: as `find_root`, `read_list` and `read_ground_truth`, or no
            document holds any query.
    """
    root, out_dir = find_root(corpus), Path(out_dir)
    audio = {name: read_list(root, listed) for name, listed in LISTS.items()}
    for name, files in audio.items():
        if name != "documents":
            path = root / "scoring" / f"groundtruth_quesst14_{name}" / f"quesst14_{name}.rttm"
            held = read_ground_truth(path)
            ref = {
                query: sorted(held.get(query, set()) & audio["documents"].keys()) for query in files
            }
            if not any(ref.values()):
                raise ValueError(f"{path}: no document of language {LANGUAGE} holds any query")
            table = {query: " ".join(documents) for query, documents in ref.items()}
            data_dir.write_table(out_dir / name / "ref", table)
    sets = {
        name: [Utterance(key, key, "", file) for key, file in files.items()]
        for name, files in audio.items()
    }
    return write_sets(out_dir, sets)
