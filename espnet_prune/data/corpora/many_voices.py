"""English sentences of many kinds, read by many voices: what an encoder is pruned and distilled on.

The sentences are those of Debian's package fortunes. The voices are Flite's and eSpeak NG's of
`TRAINING_VOICES`, played faster or slower by up to a quarter, so that pitch and formants move: each
sentence has nearly a speaker of its own.
"""

from __future__ import annotations

import functools
import random
from pathlib import Path

import numpy as np

from espnet_prune.data.audio import SAMPLING_RATE, resample, write_speech
from espnet_prune.data.corpora import common
from espnet_prune.data.data_dir import drawn
from espnet_prune.data.normalize import spoken_sentences
from espnet_prune.data.parallel import parallel_map
from espnet_prune.data.voices import FLITE, TRAINING_VOICES, Voices
from espnet_prune.files.freshness import digest, drop_stale
from espnet_prune.hub.debian import fetch_packages

#: words of a sentence, least and most
WORDS = (5, 22)
#: how much faster a recording is played, least and most, and how much faster its voice speaks
PLAYED, SPOKEN = (0.8, 1.25), (0.9, 1.15)
#: share of the sentences that Flite reads, whose voices are nearer to people's
FLITE_SHARE = 0.5
HELD_OUT = 0.04


def prepare(
    out_dir: str | Path, download_dir: str | Path, sentences: int = 1000, nj: int = 1
) -> dict[str, int]:
    """Data directories ``train_voices`` and ``valid_voices`` (4%) with transcripts.

    Args:
        download_dir: folder for Debian's packages and the audio.
        sentences: how many, drawn by a hash of what they say.
    """
    found = read_fortunes(fetch_packages(["fortunes", "fortunes-min"], download_dir))
    if not 2 <= sentences <= len(found):
        raise ValueError(f"--sentences is {sentences}, but has to be 2 to {len(found)}")
    folder = Path(download_dir) / f"many_voices_{sentences}"
    names = {f"voices-{n:05d}": text for n, text in enumerate(drawn(found, sentences))}
    settings = TRAINING_VOICES, PLAYED, SPOKEN, FLITE_SHARE
    made_of = {f"{name}.flac": digest([name, text, settings]) for name, text in names.items()}
    drop_stale(folder, made_of)
    speak = Voices(download_dir)
    speak("Good morning.", next(iter(FLITE)))  # fetches it once, before there are workers
    work = functools.partial(_speak_once, speak, folder)
    chosen = list(parallel_map(work, list(names.items()), nj, "speak many_voices"))
    held_out = max(1, round(HELD_OUT * len(chosen)))
    sets = {"train_voices": chosen[held_out:], "valid_voices": chosen[:held_out]}
    return common.write_sets(out_dir, sets)


def read_fortunes(tree: Path) -> set[str]:
    """Sentences of Debian's fortunes that a voice can read, from the tree of their packages."""
    folder = tree / "usr" / "share" / "games" / "fortunes"
    found = set()
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".dat", ".u8"):
            text = path.read_text(encoding="utf-8", errors="ignore")
            for fortune in text.split("\n%\n"):
                # What follows two tabs and a dash says who said it
                body = " ".join(fortune.partition("\t\t--")[0].split())
                found |= set(spoken_sentences(body, *WORDS))
    return found


def _speak_once(speak: Voices, folder: Path, named: tuple[str, str]) -> common.Utterance:
    """Speak a sentence into its file, if it is not there, in a voice drawn by its name."""
    name, text = named
    draw, path = random.Random(name), folder / f"{name}.flac"
    flite = [voice for voice in TRAINING_VOICES if voice in FLITE]
    rules = [voice for voice in TRAINING_VOICES if voice not in FLITE]
    voice = draw.choice(flite if draw.random() < FLITE_SHARE else rules)
    played, spoken, loudness = draw.uniform(*PLAYED), draw.uniform(*SPOKEN), draw.uniform(0.1, 0.7)
    if not path.is_file():
        samples = speak(text, voice, spoken / played)
        rate = round(SAMPLING_RATE * played / 100) * 100  # a short filter
        samples = resample(samples, rate, SAMPLING_RATE)
        write_speech(path, samples * (loudness / np.abs(samples).max()), SAMPLING_RATE)
    return common.Utterance(name, name, text, path)
