"""Data directories from real voice prompts that Debian packages, or from a folder of audio: for
pruning and ASR (`prepare`), and for language identification (`prepare_languages`).

The prompts are the core sounds of the Asterisk telephone exchange (CC BY-SA 3.0, Italian and
Russian CC BY 3.0): one professional speaker for each of five languages, 8 kHz.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from espnet_prune.data.audio import length_of
from espnet_prune.data.corpora import common
from espnet_prune.data.data_dir import hash_key
from espnet_prune.data.normalize import has_unclear_number, prompt_transcript
from espnet_prune.files.reading import package_table, read_lines, read_text
from espnet_prune.hub.debian import PackageNotFound, fetch_packages

logger = logging.getLogger(__name__)

LANGUAGES = ("en", "es", "fr", "it", "ru")
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
SPLITS = ("train", "dev", "test")
# Whisper decodes one window of 30 s, so no transcript may stand for more.
MOST_SECONDS = 30.0

# copies: the same recording under two names; spelling: mistakes in the published transcripts
_FACTS = package_table(__package__, "voice_prompts.yaml")
_COPIES, _SPELLING = _FACTS["copies"], _FACTS["spelling"]


@dataclass(frozen=True)
class Recording(common.Utterance):
    """One recording: ``prompt`` decides the split, ``text`` is empty where none is known."""

    prompt: str
    language: str = "en"

    def too_long(self) -> bool:
        """Whether Whisper cannot hear it at once, which is logged."""
        too_long = seconds_of(self.path) > MOST_SECONDS
        if too_long:
            logger.warning("%s: not labelled, longer than %g s", self.name, MOST_SECONDS)
        return too_long


def split_of(name: str) -> str:
    """The split of a recording by SHA-256 of its name: train (76%), dev (8%) or test (16%)."""
    share = int(sha256(name.lower().encode()).hexdigest()[:12], 16) / 16**12
    return "train" if share < 0.76 else "dev" if share < 0.84 else "test"


def prompt_split(name: str) -> str:
    """The split of a prompt, such as ``digits/1``: the same one in every language."""
    return split_of(_COPIES.get(name.lower(), name))


def read_transcripts(path: str | Path) -> dict[str, str]:
    """Read Asterisk's list of prompts, core-sounds-en.txt.gz: ``name: text`` lines, with comments
    after ';'."""
    transcripts = {}
    for number, line in enumerate(read_lines(path), 1):
        # A ';' inside a line is punctuation of the prompt.
        if not line.strip() or line.startswith(";"):
            continue
        name, colon, text = line.partition(":")
        if not colon:
            raise ValueError(f"{path}: line {number}: '{line}' is not 'name: text'")
        transcripts[name.strip()] = text.strip()
    return transcripts


def correct_spelling(text: str) -> str:
    """A transcript of Asterisk's list without its spelling mistakes."""
    pattern = rf"\b({'|'.join(map(re.escape, _SPELLING))})\b"
    return re.sub(pattern, lambda match: _SPELLING[match[0].lower()], text, flags=re.IGNORECASE)


def is_speech(name: str, transcripts: dict[str, str]) -> bool:
    """Whether a prompt is speech: not silence, a tone or a noise.

    The English list describes those wholly in brackets ("[this is a simple beep tone]"), and
    their names are the same in all languages.
    """
    spoken = name not in transcripts or prompt_transcript(transcripts[name])
    return bool(spoken) and not name.startswith("silence/")


def spoken_transcript(text: str) -> str:
    """A published transcript as spoken words; empty where the way it is read is unclear."""
    return "" if has_unclear_number(text) else prompt_transcript(text)


def read_prompts(tree: str | Path) -> list[Recording]:
    """The spoken prompts of all languages from the tree that `debian.fetch_packages` made."""
    share = Path(tree) / "usr" / "share"
    transcripts = read_transcripts(share / "doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
    recordings = []
    for language in LANGUAGES:
        folders = sorted((share / "asterisk" / "sounds").glob(f"{language}_*_*_*"))
        if not folders:
            text = f"has no prompts of language {language}; remove it and fetch them again"
            raise FileNotFoundError(f"{share}: {text}")
        for folder in folders:  # such as en_US_f_Allison
            speaker = f"{language}_{folder.name.split('_')[-1].lower()}"
            recordings += _read_speaker(folder, language, speaker, transcripts)
    return recordings


def _read_speaker(
    folder: Path, language: str, speaker: str, transcripts: dict[str, str]
) -> list[Recording]:
    recordings, no_speech = [], 0
    for path in sorted(folder.rglob("*.wav")):
        name, text = path.relative_to(folder).with_suffix("").as_posix(), ""
        if not is_speech(name, transcripts):
            no_speech += 1
            continue
        if length_of(path)[0] == 0:
            logger.warning("%s: left out, the package ships it without samples", path)
            continue
        if language == "en":
            text = spoken_transcript(correct_spelling(transcripts.get(name, "")))
            if not text:
                logger.warning("%s: without transcript, it is unclear how it is read", name)
        utterance = f"{speaker}-{name.replace('/', '_')}"
        recordings.append(Recording(utterance, speaker, text, path, name, language))
    text = "%s: %d prompts, and %d silences, tones and noises left out"
    logger.info(text, speaker, len(recordings), no_speech)
    return recordings


def read_audio_dir(folder: str | Path) -> list[Recording]:
    """All audio files below a folder; ``x.txt`` beside ``x.wav`` is its English transcript.

    The folder of a file is taken for its speaker; the path of a file below ``folder``, without
    suffix, for its prompt. Two files that would have one utterance id are an error.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such directory; --audio_dir names one with audio")
    paths = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise FileNotFoundError(f"{folder}: no {', '.join(SUFFIXES)} file in it or below")
    recordings: dict[str, Recording] = {}
    for path in sorted(paths):
        name = path.relative_to(folder).with_suffix("")
        speaker = _identifier("_".join(name.parts[:-1]) or folder.resolve().name)
        utterance = f"{speaker}-{_identifier(name.name)}"
        if utterance in recordings:
            both = f"{path} and {recordings[utterance].path}"
            raise ValueError(f"{both} both give the utterance {utterance}; rename one of them")
        sidecar, text = path.with_suffix(".txt"), ""
        if sidecar.is_file():
            text = spoken_transcript(read_text(sidecar))
            if not text:
                logger.warning("%s: not used, no words or a number of several digits", sidecar)
        recordings[utterance] = Recording(utterance, speaker, text, path, name.as_posix())
    transcribed = sum(bool(recording.text) for recording in recordings.values())
    text = "%s: %d recordings, %d of them with a transcript"
    logger.info(text, folder, len(recordings), transcribed)
    return list(recordings.values())


def _identifier(name: str) -> str:
    return re.sub(r"[\s/,]+", "_", name)


def seconds_of(path: Path) -> float:
    """Duration in seconds; 0 where the file cannot be read, which format_wav will report."""
    try:
        samples, rate = length_of(path)
    except (OSError, ValueError):
        return 0.0
    return samples / rate


def write_sets(recordings: list[Recording], out_dir: str | Path, split=split_of) -> dict[str, int]:
    """Write the data directories and return their numbers of utterances.

    ``train_ssl`` and ``valid_ssl`` (all languages, no text), their parts ``train_some`` and
    ``valid_some`` (English, and a fifth of the rest), and, where there are transcripts,
    ``train_en``, ``dev_en`` and ``test_en`` with those of at most 30 s.

    Args:
        split: function from the prompt of a recording to train, dev or test.
    """
    sets: dict[str, list[common.Utterance]] = {
        f"{part}_{name}": [] for name in ("ssl", "some") for part in ("train", "valid")
    }
    if any(recording.text for recording in recordings):
        sets |= {f"{part}_en": [] for part in SPLITS}
    for recording in recordings:
        part = split(recording.prompt)
        if part != "test":
            place, untold = "train" if part == "train" else "valid", replace(recording, text="")
            sets[f"{place}_ssl"].append(untold)
            if recording.language == "en" or int(hash_key(recording.name), 16) % 5 == 0:
                sets[f"{place}_some"].append(untold)
        if recording.text and not recording.too_long():
            sets[f"{part}_en"].append(recording)
    for name, chosen in sets.items():
        if not chosen:
            which = "recordings with transcripts" if name.endswith("_en") else "recordings"
            raise ValueError(
                f"{name} would be empty: {len(recordings)} {which} are too few for a split into "
                "76% train, 8% dev and 16% test by a hash of their names; give more audio"
            )
    return common.write_sets(out_dir, sets)


def prepare(
    out_dir: str | Path, download_dir: str | Path, audio_dir: str | Path | None = None
) -> dict[str, int]:
    """Prepare the data directories of the recipe; returns their numbers of utterances.

    Args:
        download_dir: folder for the Debian packages.
        audio_dir: a folder of audio to take instead of the packaged prompts.
    """
    if audio_dir is not None:
        return write_sets(read_audio_dir(audio_dir), out_dir)
    try:
        recordings = fetch_prompts(download_dir)
    except PackageNotFound as error:
        advice = "Give --audio_dir DIR to use your own recordings instead of the voice prompts"
        raise PackageNotFound(f"{error}. {advice}") from None
    return write_sets(recordings, out_dir, prompt_split)


def fetch_prompts(download_dir: str | Path) -> list[Recording]:
    """The spoken prompts of all languages, as Debian packages them (`fetch_packages`)."""
    names = [f"asterisk-core-sounds-{language}-wav" for language in LANGUAGES]
    recordings = read_prompts(fetch_packages(["asterisk-core-sounds-en", *names], download_dir))
    logger.info("prompts by language: %s", dict(Counter(each.language for each in recordings)))
    return recordings


def prepare_languages(out_dir: str | Path, download_dir: str | Path) -> dict[str, int]:
    """Write the data directories train, dev and test of spoken language identification.

    There is one speaker for each language, so that a probe may as well tell the speakers apart.
    A prompt is in the same set in all languages, and in the one where the ASR recipe has it. Those
    that are longer than 30 s, Whisper's window, are left out.
    """
    sets: dict[str, list[common.Utterance]] = {name: [] for name in SPLITS}
    for recording in fetch_prompts(download_dir):
        if not recording.too_long():
            chosen = sets[prompt_split(recording.prompt)]
            chosen.append(replace(recording, text=recording.language))
    return common.write_sets(out_dir, sets)
