"""Intent classification on Fluent Speech Commands.

    <corpus>/data/train_data.csv, valid_data.csv, test_data.csv
    <corpus>/wavs/speakers/<speaker>/<name>.wav

L. Lugosch et al., "Speech model pre-training for end-to-end spoken language understanding", 2019.
An intent has three slots: action, object and location.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from espnet_prune.data.corpora.common import SLOT_SEPARATOR, Utterance, require_dir, write_sets
from espnet_prune.files.reading import read_text

SLOTS = ("action", "object", "location")
PUBLISHED = {"train": 23132, "valid": 3118, "test": 3793}


def read_list(corpus: Path, part: str) -> list[Utterance]:
    """The utterances of data/<part>_data.csv, labelled action+object+location.

    Raises:
        FileNotFoundError: no such list.
        ValueError: a column is missing, or a row has an empty one.
    """
    path = corpus / "data" / f"{part}_data.csv"
    found = []
    rows = csv.DictReader(io.StringIO(read_text(path, "FSC of db.sh names the corpus")))
    wanted = ("path", "speakerId", *SLOTS)
    absent = [name for name in wanted if name not in (rows.fieldnames or ())]
    if absent:
        raise ValueError(f"{path}: has no column {absent[0]}")
    for number, row in enumerate(rows, 2):
        empty = [name for name in wanted if not row[name]]
        if empty:
            raise ValueError(f"{path}: line {number}: column {empty[0]} is empty")
        # One word for ESPnet: "change language" is change_language.
        values = ["_".join(row[name].split()) for name in SLOTS]
        audio = corpus / row["path"]
        speaker = row["speakerId"]
        utterance = f"{speaker}-{audio.stem}"
        found.append(Utterance(utterance, speaker, SLOT_SEPARATOR.join(values), audio))
    return found


def prepare(corpus: str | Path, out_dir: str | Path) -> dict[str, int]:
    """Write the data directories train, valid and test; returns their numbers of utterances.

    Raises:
        FileNotFoundError: no corpus, or a list or audio of it is missing.
        ValueError: as `read_list`, or an empty list.
    """
    corpus = require_dir(corpus, "FSC")
    sets = {part: read_list(corpus, part) for part in PUBLISHED}
    return write_sets(out_dir, sets, PUBLISHED)
