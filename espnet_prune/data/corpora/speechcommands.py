"""Keyword spotting on Speech Commands v0.01 with 12 classes, as in SUPERB.

    <corpus>/<word>/<speaker>_nohash_<number>.wav, 30 words
    <corpus>/_background_noise_/*.wav
    <corpus>/validation_list.txt, testing_list.txt
    <test>/<class>/*.wav, the official test set speech_commands_test_set_v0.01

P. Warden, "Speech Commands: a dataset for limited-vocabulary speech recognition", 2018. Ten words
are classes, all others `_unknown_`, and `_silence_` is one second of the background noise.
"""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from espnet_prune.data.audio import read_speech, write_speech, written_samples
from espnet_prune.data.corpora import common

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
#: Utterances as published, without silence in train and valid.
PUBLISHED = {"train": 51088, "valid": 6798, "test": 3081}
#: Hop of the seconds that are cut out of the noise, and the share of each recording to train on.
NOISE_HOP_S, NOISE_TRAIN = 0.5, 0.8


def _labelled(path: Path, word: str) -> common.Utterance:
    speaker = path.stem.partition("_nohash_")[0]
    label = word if word in WORDS or word == SILENCE else UNKNOWN
    return common.Utterance(f"{speaker}-{word.strip('_')}-{path.stem}", speaker, label, path)


def read_words(corpus: Path) -> dict[str, list[common.Utterance]]:
    """train, valid and the rest that the official lists leave for testing."""
    lists = {
        part: {words[0] for _, words in common.read_fields(corpus / file, "it is an official list")}
        for part, file in (("valid", "validation_list.txt"), ("testing", "testing_list.txt"))
    }
    sets: dict[str, list[common.Utterance]] = {"train": [], "valid": [], "testing": []}
    folders = [path for path in sorted(corpus.iterdir()) if path.is_dir() and path.name != NOISE]
    seen: set[str] = set()
    for folder in tqdm(folders, "Speech Commands", mininterval=2):
        for path in sorted(folder.glob("*.wav")):
            name = f"{folder.name}/{path.name}"
            seen.add(name)
            part = next((part for part, names in lists.items() if name in names), "train")
            sets[part].append(_labelled(path, folder.name))
    for gone in sorted(set().union(*lists.values()) - seen):
        text = "no such file, but an official list has it; unpack again"
        raise FileNotFoundError(f"{corpus / gone}: {text}")
    common.require_classes(corpus, sets["train"], (*WORDS, UNKNOWN))
    return sets


def read_test(folder: Path) -> list[common.Utterance]:
    """The official test set, a folder a class."""
    common.require_dir(folder, "SPEECHCOMMANDS_TEST")
    found = [
        common.Utterance(f"{name.strip('_')}-{path.stem}", name.strip("_"), name, path)
        for name in (*WORDS, UNKNOWN, SILENCE)
        for path in sorted((folder / name).glob("*.wav"))
    ]
    common.require_classes(folder, found, (*WORDS, UNKNOWN, SILENCE))
    return found


def cut_silence(corpus: Path, folder: Path) -> dict[str, list[common.Utterance]]:
    """Seconds of the background noise as files in `folder`: the beginnings of the recordings for
    train, their ends for valid, with no sample in both.
    """
    noises = sorted((corpus / NOISE).glob("*.wav"))
    if not noises:
        raise FileNotFoundError(f"{corpus / NOISE}: has no *.wav to cut class {SILENCE} from")
    sets: dict[str, list[common.Utterance]] = {"train": [], "valid": []}
    for path in noises:
        samples, rate = read_speech(path)
        if len(samples) < 10 * rate:
            raise ValueError(f"{path}: is shorter than 10 s, too short to cut silence from")
        border, hop = int(NOISE_TRAIN * len(samples)), int(NOISE_HOP_S * rate)
        for part, begin, end in (("train", 0, border), ("valid", border, len(samples))):
            for start in range(begin, end - rate + 1, hop):
                name = f"{path.stem}-{start / rate:06.2f}"
                target = folder / path.stem / f"{name}.wav"
                if written_samples(target, rate) != rate:
                    write_speech(target, samples[start : start + rate], rate)
                sets[part].append(common.Utterance(f"silence-{name}", "silence", SILENCE, target))
    return sets


def prepare(corpus: str | Path, test: str | Path, out_dir: str | Path) -> dict[str, int]:
    """Write the data directories train, valid and test; returns their numbers of utterances.

    The seconds of silence are written to the folder silence of `out_dir`.
    """
    corpus = common.require_dir(corpus, "SPEECHCOMMANDS")
    words, test_set = read_words(corpus), read_test(Path(test))
    silence = cut_silence(corpus, Path(out_dir) / "silence")
    sets = {name: [*words[name], *seconds] for name, seconds in silence.items()}
    published = {name: PUBLISHED[name] + len(seconds) for name, seconds in silence.items()}
    return common.write_sets(out_dir, {**sets, "test": test_set}, {**PUBLISHED, **published})
