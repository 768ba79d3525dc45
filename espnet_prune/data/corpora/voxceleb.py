"""Speaker identification on VoxCeleb1 by its official split.

    <corpus>/dev/wav/<speaker>/<video>/<number>.wav     see `voxceleb_trials.find_audio`
    <corpus>/iden_split.txt     lines "1 path" (train), "2 path" (valid) or "3 path" (test)

A. Nagrani et al., "VoxCeleb: a large-scale speaker identification dataset", 2017.
"""

from __future__ import annotations

from pathlib import Path

from espnet_prune.data.corpora.labelled import Labelled, read_list, write_sets
from espnet_prune.data.corpora.voxceleb_trials import find_audio, utterance_name

SETS = {"1": "train", "2": "valid", "3": "test"}
PUBLISHED = {"train": 138361, "valid": 6904, "test": 8251}


def prepare(
    corpus: str | Path, out_dir: str | Path, split: str | Path | None = None
) -> dict[str, int]:
    """Write the data directories train, valid and test; returns their numbers of utterances.

    Args:
        corpus: see `voxceleb_trials.find_audio`.
        out_dir: folder of the data directories.
        split: the official split, by default iden_split.txt of the corpus.

    Raises:
        FileNotFoundError: no corpus, no split, or a file of the split is missing.
        ValueError: a line of the split that is malformed.
    """
    audio = find_audio(corpus)
    path = Path(split) if split else Path(corpus) / "iden_split.txt"
    sets: dict[str, list[Labelled]] = {name: [] for name in SETS.values()}
    for number, line in enumerate(read_list(path, "train, valid and test files"), 1):
        fields = line.split()
        if len(fields) != 2 or fields[0] not in SETS:
            raise ValueError(f"{path}: line {number}: '{line}' is not '1 path', '2 …' or '3 …'")
        relative = fields[1]
        speaker = relative.partition("/")[0]
        file = audio.get(speaker, {}).get(relative)
        if file is None:
            raise FileNotFoundError(
                f"{corpus}: has no {relative}, which {path} needs; unpack both parts of VoxCeleb1"
            )
        sets[SETS[fields[0]]].append(Labelled(utterance_name(relative), speaker, speaker, file))
    return write_sets(out_dir, sets, PUBLISHED)
