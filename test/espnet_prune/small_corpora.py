"""Miniatures of the corpora of classification, in their published layouts; the audio is noise."""

import gzip
from itertools import product
from pathlib import Path

import numpy as np
import soundfile

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "bed", "tree")
EMOTIONS = ("ang", "hap", "exc", "neu", "sad", "fru", "xxx")


def noise(path: Path, seconds: float = 0.3, rate: int = 16000, seed: int = 0) -> Path:
    """A file of white noise; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([seed, *path.name.encode()])
    soundfile.write(path, 0.1 * generator.normal(size=int(seconds * rate)), rate)
    return path


def speechcommands(folder: Path, speakers: int = 4) -> tuple[Path, Path]:
    """The corpus and the official test set; returns both folders.

    Of each of 12 words, two of them unknown, a recording by each speaker; the last but one speaker
    is on the validation list, the last one on the testing list.
    """
    corpus, test = folder / "speech_commands_v0.01", folder / "speech_commands_test_set_v0.01"
    lists = {"validation": [], "testing": []}
    for word, speaker in product(WORDS, range(speakers)):
        path = noise(corpus / word / f"{speaker:08x}_nohash_0.wav", seed=hash_of(word))
        part = {speakers - 2: "validation", speakers - 1: "testing"}.get(speaker)
        if part:
            lists[part].append(f"{word}/{path.name}\n")
    for part, lines in lists.items():
        (corpus / f"{part}_list.txt").write_text("".join(lines))
    noise(corpus / "_background_noise_" / "pink_noise.wav", seconds=12)
    for name in (*WORDS[:10], "_unknown_", "_silence_"):
        noise(test / name / "0000000f_nohash_0.wav", seed=hash_of(name))
    return corpus, test


def hash_of(name: str) -> int:
    return sum(name.encode())


def voxceleb1(corpus: Path, speakers: int = 3) -> Path:
    """dev/wav, test/wav and iden_split.txt; of each speaker two files for train, one for others."""
    lines = []
    for number in range(speakers):
        part = "test" if number == 0 else "dev"
        for video, kind in enumerate((1, 1, 2, 3)):
            name = f"id1000{number}/video{video}/00001.wav"
            noise(corpus / part / "wav" / name, seconds=0.4 + 0.3 * (video == 0))
            lines.append(f"{kind} {name}\n")
    (corpus / "iden_split.txt").write_text("".join(lines))
    return corpus


def fsc(corpus: Path) -> Path:
    """data/*_data.csv and wavs: in train two actions, two objects and a location in all pairs."""
    rows = {
        "train": [
            *product(("activate", "change language"), ("lights", "none"), ("kitchen", "none"))
        ],
        "valid": [("activate", "lights", "none"), ("change language", "none", "none")],
        "test": [("activate", "none", "kitchen"), ("activate", "lights", "none")],
    }
    (corpus / "data").mkdir(parents=True)
    for part, intents in rows.items():
        lines = [",path,speakerId,transcription,action,object,location"]
        for number, intent in enumerate(intents):
            name = f"wavs/speakers/spk{number % 2}/{part}{number}.wav"
            noise(corpus / name)
            lines.append(f'{number},{name},spk{number % 2},"Turn it, please",{",".join(intent)}')
        (corpus / "data" / f"{part}_data.csv").write_text("\n".join(lines) + "\n")
    return corpus


def iemocap(corpus: Path) -> Path:
    """Five sessions with a dialog each, in which both speakers show every emotion once."""
    for session in range(1, 6):
        dialog = f"Ses{session:02d}F_impro01"
        root = corpus / f"Session{session}"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for speaker, (number, emotion) in product("FM", enumerate(EMOTIONS)):
            name = f"{dialog}_{speaker}{number:03d}"
            noise(root / "sentences" / "wav" / dialog / f"{name}.wav")
            lines.append(f"[{number}.0000 - {number}.9000]\t{name}\t{emotion}\t[2.5, 2.5, 2.5]")
            lines += ["C-E2:\tNeutral;\t()", "A-E3:\tval 3; act 2; dom  2;\t()", ""]
        path = root / "dialog" / "EmoEvaluation" / f"{dialog}.txt"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(lines))
        (path.parent / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\xff")
    return corpus


def fsdd(corpus: Path, speakers: tuple[str, ...] = ("george", "jackson", "lucas")) -> Path:
    """recordings/: of each digit and speaker the indices 0, 5 and 10, at 8 kHz."""
    for digit, speaker, index in product(range(10), speakers, (0, 5, 10)):
        path = corpus / "recordings" / f"{digit}_{speaker}_{index}.wav"
        noise(path, rate=8000, seed=hash_of(speaker))
    return corpus


def mini_an4(corpus: Path) -> Path:
    """an4/: three recordings of the training set, and one of the test set."""
    train = [
        "START </s> (an152-mwhw-b)",
        "YES </s> (an251-fash-b)",
        "MARCH THIRD </s> (cen8-fbbh-b)",
    ]
    sets = {"train": [f"<s> {line}" for line in train], "test": ["ELEVEN TWENTY (cen8-fcaw-b)"]}
    folders = {"train": "an4_clstk", "test": "an4test_clstk"}
    (corpus / "an4" / "etc").mkdir(parents=True)
    for name, lines in sets.items():
        table = corpus / "an4" / "etc" / f"an4_{name}.transcription"
        table.write_text("".join(f"{line}\n" for line in lines))
        for line in lines:
            recording = line.split("(")[1].removesuffix(")")
            folder = corpus / "an4" / "wav" / folders[name] / recording.split("-")[1]
            noise(folder / f"{recording}.wav")
            (folder / f"{recording}.wav").rename(folder / f"{recording}.sph")
    return corpus


def prompts(downloads: Path) -> Path:
    """What `debian.fetch_packages` leaves behind: in each of five languages a silence and prompts,
    three for train, one for dev and two for test."""
    share = downloads / "tree" / "usr" / "share"
    names = ("digits/5", "hours", "minutes", "beep", "vm-goodbye", "agent-pass")
    folders = ("en_US_f_Allison", "es_MX_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_Ivr")
    packages = ["asterisk-core-sounds-en"]
    for folder in folders:
        for name in (*names, "silence/1"):
            path = share / "asterisk" / "sounds" / folder / f"{name}.wav"
            noise(path, rate=8000, seed=hash_of(folder))
        packages.append(f"asterisk-core-sounds-{folder[:2]}-wav")
    listed = share / "doc" / "asterisk-core-sounds-en" / "core-sounds-en.txt.gz"
    listed.parent.mkdir(parents=True)
    listed.write_bytes(gzip.compress("".join(f"{name}: a word\n" for name in names).encode()))
    (downloads / "done").mkdir()
    for name in packages:
        (downloads / "done" / name).touch()
    return downloads
