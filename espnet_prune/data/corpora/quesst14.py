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

from collections import Counter
from pathlib import Path

from espnet_prune.data.corpora import common

LANGUAGE = "nnenglish"
ARCHIVE = "quesst14Database.tgz"
#: Data directory -> list of its audio. Documents are searched, dev and eval are queries.
LISTS = {"documents": "utterances", "dev": "dev", "eval": "eval"}


def read_audio(root: Path, name: str) -> list[common.Utterance]:
    """The English audio in a list; an utterance has the name of its file, without the suffix.

    A list that has fewer recordings than the folders they lie in is warned of.
    """
    path = root / "scoring" / f"language_key_{name}.lst"
    found, folders = [], Counter()
    for place, fields in common.read_fields(path, f"unpack {ARCHIVE} again"):
        if len(fields) != 2 or "/" not in fields[0]:
            raise ValueError(f"{place}: not 'path language'")
        file = root / fields[0].partition("/")[2]
        folders[file.parent] += 1
        if fields[1] == LANGUAGE:
            found.append(common.Utterance(file.stem, file.stem, "", file))
    for folder, listed in folders.items():
        there = len(list(folder.glob("*.wav")))
        if listed < there:
            text = f"{path}: has {listed} recordings, but {folder} has {there}"
            common.warn_incomparable(f"{text}; unpack {ARCHIVE} again")
    return found


def read_ground_truth(path: Path) -> dict[str, set[str]]:
    """Query -> documents that hold it."""
    held: dict[str, set[str]] = {}
    for place, fields in common.read_fields(path, f"unpack {ARCHIVE} again"):
        if fields[:1] != ["LEXEME"]:
            continue
        if len(fields) < 6:
            raise ValueError(f"{place}: not 'LEXEME document … query …'")
        held.setdefault(fields[5], set()).add(fields[1])
    if not held:
        raise ValueError(f"{path}: has no line of type LEXEME")
    return held


def prepare(corpus: str | Path, out_dir: str | Path) -> dict[str, int]:
    """Write the data directories documents, dev and eval; return their numbers of recordings.

    dev and eval also get the table ref, 'query documents that hold it', with the English documents
    only. A query that none of them holds has a line without documents; scoring leaves it out.
    """
    folders, advice = ("quesst14Database", "."), f"unpack {ARCHIVE} there"
    root = common.find_folder(corpus, "QUESST14", folders, ["scoring"], advice)
    audio = {name: read_audio(root, listed) for name, listed in LISTS.items()}
    documents = {each.name for each in audio["documents"]}
    tables = {}
    for name in ("dev", "eval"):
        path = root / "scoring" / f"groundtruth_quesst14_{name}" / f"quesst14_{name}.rttm"
        held = read_ground_truth(path)
        ref = {query.name: documents & held.get(query.name, set()) for query in audio[name]}
        if audio[name] and not any(ref.values()):
            raise ValueError(f"{path}: no document of language {LANGUAGE} holds any query")
        tables[name] = {"ref": {query: " ".join(sorted(there)) for query, there in ref.items()}}
    return common.write_sets(out_dir, audio, tables=tables)
