"""Intent classification on Fluent Speech Commands.

    <corpus>/data/train_data.csv, valid_data.csv, test_data.csv
    <corpus>/wavs/speakers/<speaker>/<name>.wav

L. Lugosch et al., "Speech model pre-training for end-to-end spoken language understanding", 2019.
An intent has three slots: action, object and location.
"""

from __future__ import annotations

from pathlib import Path

from espnet_prune.data.corpora import common

SLOTS = ("action", "object", "location")
PUBLISHED = {"train": 23132, "valid": 3118, "test": 3793}


def read_part(corpus: Path, part: str) -> list[common.Utterance]:
    """The utterances of data/<part>_data.csv, labelled action+object+location."""
    found = []
    path = corpus / "data" / f"{part}_data.csv"
    columns = ("path", "speakerId", *SLOTS)
    for _, row in common.read_csv(path, columns, "FSC of db.sh names the corpus"):
        # One word for ESPnet: "change language" is change_language.
        label = common.SLOT_SEPARATOR.join("_".join(row[name].split()) for name in SLOTS)
        audio, speaker = corpus / row["path"], row["speakerId"]
        found.append(common.Utterance(f"{speaker}-{audio.stem}", speaker, label, audio))
    return found


def prepare(corpus: str | Path, out_dir: str | Path) -> dict[str, int]:
    """Write the data directories train, valid and test; returns their numbers of utterances."""
    corpus = common.require_dir(corpus, "FSC")
    sets = {part: read_part(corpus, part) for part in PUBLISHED}
    return common.write_sets(out_dir, sets, PUBLISHED)
