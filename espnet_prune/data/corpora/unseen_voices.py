"""Test sets of speakers that no training here has heard: sentences read by natural voices."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from espnet_prune.data.audio import SAMPLING_RATE, write_speech
from espnet_prune.data.corpora import common
from espnet_prune.data.data_dir import drawn
from espnet_prune.data.sir.directory import read_all_items
from espnet_prune.data.voices import NATURAL_VOICES, Voices
from espnet_prune.files.freshness import digest, drop_stale

logger = logging.getLogger(__name__)

#: words of a sentence, least and most
WORDS = (8, 22)


def prepare(
    out_dir: str | Path, items: Sequence[str | Path], download_dir: str | Path, sentences: int = 100
) -> dict[str, int]:
    """Data directories ``test_VOICE`` of the same sentences, read by each of `NATURAL_VOICES`.

    Args:
        items: files of SIR items (`espnet_prune.data.sir.items`), whose sentences are read.
        download_dir: folder for what voices need; the audio goes into its ``unseen_voices_N``.
        sentences: how many, drawn by a hash of what they say.
    """
    least, most = WORDS
    found = {
        text
        for item in read_all_items(items, keys=False)
        for _, text in item.sentences
        if least <= len(text.split()) <= most
    }
    if not 0 < sentences <= len(found):
        text = f"{len(found)} sentences of {least} to {most} words"
        raise ValueError(f"--sentences is {sentences}; the items have {text}")
    chosen, speak = drawn(found, sentences), Voices(download_dir)
    folder = Path(download_dir) / f"unseen_voices_{sentences}"
    names = {
        f"{voice}-{n:04d}": (voice, text)
        for voice in NATURAL_VOICES
        for n, text in enumerate(chosen)
    }
    drop_stale(folder, {f"{name}.flac": digest(said) for name, said in names.items()})
    sets: dict[str, list[common.Utterance]] = {f"test_{voice}": [] for voice in NATURAL_VOICES}
    for name, (voice, text) in names.items():
        path = folder / f"{name}.flac"
        if not path.is_file():
            write_speech(path, speak(text, voice), SAMPLING_RATE)
        sets[f"test_{voice}"].append(common.Utterance(name, voice, text, path))
    logger.info("%d sentences, read by %s", sentences, " and ".join(NATURAL_VOICES))
    return common.write_sets(out_dir, sets)
