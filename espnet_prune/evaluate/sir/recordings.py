"""The recordings that are asked about, checked and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from espnet_prune.data.audio import check_length, check_whole, load_speech
from espnet_prune.data.data_dir import audio_path, optional_table, read_table
from espnet_prune.data.sir.questions import Question, read_questions


@dataclass(frozen=True)
class Recording:
    """A recording and what is asked about it; None is not known."""

    question: Question
    path: Path
    samples: int | None
    transcript: str | None

    @property
    def id(self) -> str:
        return self.question.id

    def load(self, fs: int) -> np.ndarray:
        """(T,) float32 samples, see `espnet_prune.data.audio.load_speech`."""
        return load_speech(self.path, fs, num_samples=self.samples)

    def written(self, kind: str) -> str:
        """What the model gets instead of audio: the transcript, or "" for `nothing`.

        Raises:
            ValueError: a transcript that is missing.
        """
        if kind == "nothing":
            return ""
        if not self.transcript:
            raise ValueError(f"{self.id}: has no line in text, so there is no transcript")
        return self.transcript


def read_recordings(data_dir: str | Path, keys: Sequence[str] | None = None) -> list[Recording]:
    """The recordings of a data directory with wav.scp, questions and, optionally,
    utt2num_samples and text.

    Args:
        keys: those that are wanted, in this order; all when absent.
    Raises:
        FileNotFoundError: a table or an audio file is missing.
        ValueError: an item without question, a recording that ends early or is not audio, or
            a damaged table.
    """
    folder = Path(data_dir)
    scp, questions = read_table(folder / "wav.scp"), read_questions(folder / "questions")
    samples, text = optional_table(folder / "utt2num_samples"), optional_table(folder / "text")
    found = []
    for name in scp if keys is None else keys:
        if name not in scp:
            raise ValueError(f"{folder / 'wav.scp'}: {name} is not there, but asked for")
        if name not in questions:
            raise ValueError(f"{folder / 'questions'}: {name} has no question")
        path = audio_path(scp[name])
        if not path.is_file():
            raise FileNotFoundError(f"{folder / 'wav.scp'}: {name}: no such file as {path}")
        number = int(samples[name]) if name in samples else None
        check_whole(path)
        try:
            check_length(soundfile.info(path).frames, number, path)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{path}: not audio that can be read ({error.error_string})") from None
        found.append(Recording(questions[name], path, number, text.get(name)))
    return found
