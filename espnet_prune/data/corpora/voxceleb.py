"""VoxCeleb1: speaker identification by the official split, and speaker verification.

    <corpus>/dev/wav/<speaker>/<video>/<number>.wav     or without dev/, as the archives unpack
    <corpus>/test/wav/<speaker>/<video>/<number>.wav    or without test/
    <corpus>/iden_split.txt     lines "1 path" (train), "2 path" (valid) or "3 path" (test)
    <corpus>/veri_test.txt      lines "1 or 0, path, path", paths from <speaker> on

A. Nagrani et al., "VoxCeleb: a large-scale speaker identification dataset", 2017.

VoxCeleb1 has no development trials, so SUPERB's habit is to choose the checkpoint on the test
trials. Here some of the training speakers are held out, and checkpoints are chosen on them.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from tqdm import tqdm

from espnet_prune.data import data_dir
from espnet_prune.data.corpora import common
from espnet_prune.data.data_dir import drawn

logger = logging.getLogger(__name__)

#: Number in iden_split.txt -> set, and how many utterances it has as published.
SPLITS = {"1": "train", "2": "valid", "3": "test"}
PUBLISHED = {"train": 138361, "valid": 6904, "test": 8251}
#: As published: trials of veri_test.txt, and speakers that are in none of them.
TRIALS, TRAINING_SPEAKERS = 37720, 1211
#: The held-out speakers: as many as in the test set, with utterances and target trials each (and
#: as many other trials).
HELD_OUT, UTTERANCES_EACH, TARGETS_EACH = 40, 20, 50


def find_audio(corpus: str | Path) -> dict[str, dict[str, Path]]:
    """Speaker -> path from the speaker on -> file, sorted."""
    corpus = common.require_dir(corpus, "VOXCELEB1")
    speakers: dict[str, dict[str, Path]] = {}
    for part in ("dev/wav", "test/wav", "wav"):
        folders = sorted((corpus / part).iterdir()) if (corpus / part).is_dir() else []
        for folder in tqdm(folders, str(corpus / part), mininterval=2):
            for path in sorted(folder.glob("*/*.wav")):
                relative = "/".join(path.parts[-3:])
                speakers.setdefault(folder.name, {})[relative] = path.resolve()
    if not speakers:
        text = "has no audio <speaker>/<video>/*.wav in dev/wav, test/wav or wav"
        raise FileNotFoundError(f"{corpus}: {text}; unpack VoxCeleb1 there")
    return dict(sorted(speakers.items()))


def utterance_name(relative: str) -> str:
    """id10001/J9lHsKG98U8/00001.wav is id10001-J9lHsKG98U8-00001."""
    return relative.removesuffix(".wav").replace("/", "-")


def _speaker(relative: str) -> str:
    return relative.partition("/")[0]


def _utterance(
    audio: Mapping[str, Mapping[str, Path]], relative: str, label: str, wanted_by: Path
) -> common.Utterance:
    """The utterance of a path in a list."""
    speaker = _speaker(relative)
    file = audio.get(speaker, {}).get(relative)
    if file is None:
        raise FileNotFoundError(f"{wanted_by}: the corpus has no {relative}; unpack all of it")
    return common.Utterance(utterance_name(relative), speaker, label, file)


def prepare_identification(
    corpus: str | Path, out_dir: str | Path, split: str | Path | None = None
) -> dict[str, int]:
    """Write the data directories train, valid and test; returns their numbers of utterances.

    Args:
        split: the official split, by default iden_split.txt of the corpus.
    """
    audio = find_audio(corpus)
    path = Path(split) if split else Path(corpus) / "iden_split.txt"
    sets: dict[str, list[common.Utterance]] = {name: [] for name in SPLITS.values()}
    for place, fields in common.read_fields(path, "it lists the train, valid and test files"):
        if len(fields) != 2 or fields[0] not in SPLITS:
            raise ValueError(f"{place}: '{' '.join(fields)}' is not '1 path', '2 …' or '3 …'")
        label = _speaker(fields[1])
        sets[SPLITS[fields[0]]].append(_utterance(audio, fields[1], label, path))
    return common.write_sets(out_dir, sets, PUBLISHED)


def read_trials(path: str | Path) -> dict[tuple[str, str], bool]:
    """Pair of paths -> whether one speaker talks in both, of an official list.

    A trial that is there several times counts once, with a warning; so does another number of
    trials than the published one.
    """
    trials: dict[tuple[str, str], bool] = {}
    lines = list(common.read_fields(path, "put VoxCeleb1's list of trials there, veri_test.txt"))
    for place, fields in lines:
        if len(fields) != 3 or fields[0] not in ("0", "1") or "*" in "".join(fields):
            raise ValueError(f"{place}: not '1 path path' or '0 path path'")
        label, first, second = fields
        if (label == "1") != (_speaker(first) == _speaker(second)):
            raise ValueError(f"{place}: the label does not fit the speakers")
        trials[first, second] = label == "1"
    if len(trials) != len(lines):
        logger.warning("%s: %d trials are there twice", path, len(lines) - len(trials))
    common.warn_unpublished(path, len(lines), TRIALS, "trials")
    return trials


def development_trials(
    speakers: Mapping[str, Iterable[str]],
    utterances_each: int = UTTERANCES_EACH,
    targets_each: int = TARGETS_EACH,
) -> dict[tuple[str, str], bool]:
    """Trials among the given speakers: pair of paths -> whether one speaker talks in both.

    For each speaker as many targets as others. They are drawn by a hash of their names, targets
    from different videos where there are enough.

    Args:
        speakers: speaker -> paths, as of `find_audio`.
        utterances_each: how many utterances of a speaker are drawn from.
        targets_each: targets of a speaker, fewer where there are not so many.

    Raises:
        ValueError: fewer than two speakers, or one with a single utterance.
    """
    if len(speakers) < 2:
        raise ValueError(f"development trials need two speakers or more, there are {len(speakers)}")
    chosen = {name: drawn(paths, utterances_each) for name, paths in sorted(speakers.items())}
    trials: dict[tuple[str, str], bool] = {}
    for name, paths in chosen.items():
        pairs = list(itertools.combinations(sorted(paths), 2))
        if not pairs:
            raise ValueError(f"speaker {name} has one utterance only, which makes no target trial")
        apart = [pair for pair in pairs if pair[0].split("/")[1] != pair[1].split("/")[1]]
        targets = drawn(apart, targets_each)
        targets += drawn(set(pairs) - set(apart), targets_each - len(targets))
        others = [path for other in chosen if other != name for path in chosen[other]]
        # Not both ways round, as (b, a) asks the same as (a, b).
        free = [pair for pair in itertools.product(paths, others) if pair[::-1] not in trials]
        trials.update(dict.fromkeys(targets, True))
        trials.update(dict.fromkeys(drawn(free, len(targets)), False))
    return trials


def prepare_verification(
    corpus: str | Path,
    out_dir: str | Path,
    trials: str | Path | None = None,
    held_out: int = HELD_OUT,
) -> dict[str, int]:
    """Write the data directories train, dev and test, and return their numbers of utterances.

    dev and test also get the table trials, 'utterance*utterance 1 or 0' (1: one speaker), and have
    only the utterances that are in a trial. Speakers of the test trials are not trained on.

    Args:
        trials: list of test trials, by default veri_test.txt of the corpus.
        held_out: number of training speakers that go to dev instead.
    """
    audio = find_audio(corpus)
    path = Path(trials) if trials else Path(corpus) / "veri_test.txt"
    test = read_trials(path)
    test_speakers = set(map(_speaker, itertools.chain(*test)))
    training = [name for name in audio if name not in test_speakers]
    common.warn_unpublished(corpus, len(training), TRAINING_SPEAKERS, "training speakers")
    if held_out < 2 or len(training) - held_out < 2:
        text = f"has {len(training)} training speakers, of which --held_out {held_out} cannot be"
        raise ValueError(f"{corpus}: {text}: hold out 2 or more, and leave 2 or more")
    development = set(drawn(training, held_out))
    dev = development_trials({name: audio[name] for name in development})
    names = {
        "train": [p for name in training if name not in development for p in audio[name]],
        "dev": sorted(set(itertools.chain(*dev))),
        "test": sorted(set(itertools.chain(*test))),
    }
    sets = {part: [_utterance(audio, p, "", path) for p in paths] for part, paths in names.items()}
    tables = {
        part: {"trials": {"*".join(map(utterance_name, pair)): int(pairs[pair]) for pair in pairs}}
        for part, pairs in (("dev", dev), ("test", test))
    }
    return common.write_sets(out_dir, sets, tables=tables)


def pair_up(source: str | Path, trials: str | Path, target: str | Path) -> int:
    """Write the data directory of trials that ESPnet's task spk validates on.

    Its wav.scp and utt2num_samples have a line for each trial, of the first utterance; the tables
    speech2 and spk_labels have the second utterance's audio, and the label.

    Args:
        source: formatted data directory of the utterances.
        trials: table 'utterance*utterance label' (ValueError: an utterance is not in the source).

    Returns: the number of trials.
    """
    source, target = Path(source), Path(target)
    data_dir.require_ours(target)
    audio = data_dir.read_scp(source / "wav.scp")
    samples = data_dir.read_counts(source / "utt2num_samples")
    labels = data_dir.read_table(trials)
    pairs = {trial: trial.split("*") for trial in labels}
    for trial, pair in pairs.items():
        for utterance in pair:
            if utterance not in audio or len(pair) != 2:
                text = f"{utterance} is not in {source}; prepare both again"
                raise ValueError(f"{trials}: {trial}: {text}")
    tables = {
        "utt2num_samples": {trial: samples[first] for trial, (first, _) in pairs.items()},
        "speech2": {trial: audio[second] for trial, (_, second) in pairs.items()},
        "spk_labels": labels,
        "wav.scp": {trial: audio[first] for trial, (first, _) in pairs.items()},
    }
    data_dir.claim(target)
    for name, table in tables.items():
        data_dir.write_table(target / name, table)
    return len(labels)
