"""The Free Spoken Digit Dataset: which digit, and whose voice.

    <corpus>[/recordings]/{digit}_{speaker}_{index}.wav, 8 kHz

Z. Jackson et al., "Free Spoken Digit Dataset", 2018 (CC BY-SA 4.0).
"""

from __future__ import annotations

import re
from pathlib import Path

from espnet_prune.data.corpora import common

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NAME = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")
#: The authors' test split has the indices 0 to 4 of each digit and speaker.
TEST, VALID = range(0, 5), range(5, 10)


def read_corpus(corpus: str | Path) -> list[tuple[common.Utterance, int]]:
    """All recordings, labelled with the digit's word, and their indices."""
    advice = "unpack the recordings {digit}_{speaker}_{index}.wav there"
    folder = common.find_folder(corpus, "FSDD", ("recordings", "."), ["*.wav"], advice)
    found = []
    for path in sorted(folder.glob("*.wav")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise ValueError(f"{path}: is not named digit_speaker_index.wav; remove it")
        digit, speaker, index = match.groups()
        utterance = f"{speaker}-{digit}-{int(index):03d}"
        found.append((common.Utterance(utterance, speaker, DIGITS[int(digit)], path), int(index)))
    for speaker in sorted({each.speaker for each, _ in found}):
        own = (each for each, _ in found if each.speaker == speaker)
        common.require_classes(f"{folder}: {speaker}", own, DIGITS)
    return found


def prepare_digits(corpus: str | Path, out_dir: str | Path) -> dict[str, int]:
    """Sets to recognise digits, in as many folds as there are speakers.

    In fold n (from 1) ``test_foldN`` is all of the n-th speaker, ``valid_foldN`` the indices 0 to 4
    of the others, and ``train_foldN`` their remaining ones: nobody is trained and tested on.
    """
    found = read_corpus(corpus)
    speakers = sorted({each.speaker for each, _ in found})
    if len(speakers) < 2:
        raise ValueError(f"{corpus}: only the speaker {speakers[0]}; leaving one out needs two")
    groups = [[each for each, _ in found if each.speaker == speaker] for speaker in speakers]
    valid = {each.name for each, index in found if index in TEST}
    return common.write_sets(out_dir, common.leave_one_out(groups, lambda _: valid))


def prepare_speakers(corpus: str | Path, out_dir: str | Path) -> dict[str, int]:
    """Sets to recognise speakers: ``test`` has the indices 0 to 4, ``valid`` 5 to 9, ``train``
    those from 10 on."""
    sets: dict[str, list[common.Utterance]] = {"train": [], "valid": [], "test": []}
    for each, index in read_corpus(corpus):
        name = "test" if index in TEST else "valid" if index in VALID else "train"
        sets[name].append(common.Utterance(each.name, each.speaker, each.speaker, each.path))
    return common.write_sets(out_dir, sets)
