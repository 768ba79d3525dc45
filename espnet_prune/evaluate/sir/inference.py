"""Answer questions about recordings under many conditions with one speech LLM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from espnet_prune.data.audio import check_speech, read_speech
from espnet_prune.data.data_dir import audio_path, optional_table, read_table
from espnet_prune.data.sir.directory import check_whole
from espnet_prune.data.sir.items import LETTERS, shuffled
from espnet_prune.data.sir.questions import Question, read_questions
from espnet_prune.evaluate.sir.answers import Answer
from espnet_prune.evaluate.sir.conditions import WHOLE, Condition
from espnet_prune.speech_llm import Read, SpeechLLM
from espnet_prune.tokens import TokenPruner

#: what the model is asked, if nothing else is said: the question alone
PROMPT = "{question}"


@dataclass(frozen=True)
class Recording:
    """A recording and what is asked about it.

    Attributes:
        path: of its audio.
        samples: how many it has to have; None where nobody says.
        transcript: None where there is none.
    """

    question: Question
    path: Path
    samples: int | None
    transcript: str | None

    @property
    def id(self) -> str:
        return self.question.id


def read_recordings(data_dir: str | Path, keys: Sequence[str] | None = None) -> list[Recording]:
    """The recordings of a data directory with wav.scp, questions and, where they are there,
    utt2num_samples and text.

    Args:
        keys: those that are wanted, in this order; all when absent.
    Raises:
        FileNotFoundError: a table or an audio file is missing.
        ValueError: an item without question, a recording that ends early or is no audio, or a
            damaged table.
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
            _check_length(path, soundfile.info(path).frames, number)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{path}: not audio that can be read ({error.error_string})") from None
        found.append(Recording(questions[name], path, number, text.get(name)))
    return found


def _check_length(path: Path, frames: int, wanted: int | None) -> None:
    if wanted is not None and frames != wanted:
        how = "it ends early" if frames < wanted else "it is another recording"
        raise ValueError(
            f"{path}: has {frames} samples, but utt2num_samples says {wanted}: {how}; make it again"
        )


def load_speech(recording: Recording, fs: int) -> np.ndarray:
    """(T,) float32 samples.

    Raises:
        ValueError: unreadable, of several channels, at another rate than `fs`, or of a length that
            is not as utt2num_samples says.
    """
    samples, rate = read_speech(recording.path)
    samples = samples[:, 0] if samples.shape[1] == 1 else samples
    check_speech(samples, rate, recording.path, fs=fs)
    _check_length(recording.path, len(samples), recording.samples)
    return samples


def _begins(condition: Condition) -> bool:
    """Whether the prompt begins with the recording's first tokens as they are."""
    return condition == WHOLE or condition.strategy == "crop"


def written(recording: Recording, kind: str) -> str:
    """What the model gets instead of audio: the transcript, or "" for `nothing`.

    Raises:
        ValueError: a transcript that is missing.
    """
    if kind == "nothing":
        return ""
    if not recording.transcript:
        raise ValueError(f"{recording.id}: has no line in text, which its transcript is")
    return recording.transcript


class Answerer:
    """Puts questions to a speech LLM and scores every choice by its text.

    Choices are shuffled by `seed` and id before anything sees them. The pruner compares audio with
    the question alone, whatever else stands in the prompt.

    Args:
        llm: the model.
        prompt: what is asked: "{question}" is replaced, and so is "{choices}" by the choices with
            letters, a line each, where it occurs.
        seed: of the order of choices.
        positions: see `SpeechLLM.prompts`.
    Raises:
        ValueError: a prompt without "{question}".
    """

    def __init__(
        self, llm: SpeechLLM, prompt: str = PROMPT, seed: int = 0, positions: str = "contiguous"
    ):
        if "{question}" not in prompt:
            raise ValueError(f"prompt is '{prompt}', but has to have {{question}} in it")
        self.llm = llm
        self.prompt = prompt
        self.seed = seed
        self.positions = positions

    def __call__(
        self, recordings: Sequence[Recording], pruners: Sequence[tuple[Condition, TokenPruner]]
    ) -> Iterator[list[Answer]]:
        """Answers to a batch under one condition after another; audio is embedded once.

        The beginnings of a recording (`crop`) come right after the whole, if that is asked for:
        they begin as it does, and continue its cache.

        Args:
            pruners: the conditions; where the input is not speech the pruner is not used.
        Raises:
            ValueError: what the recordings or the model say; a transcript that is missing.
        """
        speech = [load_speech(r, self.llm.sampling_rate) for r in recordings]
        seconds = [len(samples) / self.llm.sampling_rate for samples in speech]
        asked = [shuffled(r.question, self.seed) for r in recordings]
        heard: list[tuple[Tensor, str]] = []
        whole: Read | None = None
        for condition, pruner in sorted(pruners, key=lambda pair: not _begins(pair[0])):
            if condition.input in ("speech", "heard") and not heard:
                heard = [self.llm.hear(samples, self.llm.sampling_rate) for samples in speech]
            if condition.input == "speech":
                tokens = [audio for audio, _ in heard]
                kept = self.llm.select(
                    pruner,
                    tokens,
                    [r.question.question for r in recordings],
                    [r.id for r in recordings],
                )
            else:
                if condition.input == "heard":
                    texts = [words for _, words in heard]
                else:
                    texts = [written(r, condition.input) for r in recordings]
                tokens = [self._embed(text) for text in texts]
                kept = [torch.arange(len(t), device=t.device) for t in tokens]
            prompts = self.llm.prompts(
                tokens, [self._text(q) for q in asked], kept=kept, positions=self.positions
            )
            if not _begins(condition):
                whole = None
            read = self.llm.read(prompts, whole)
            if condition == WHOLE:
                whole = read
            scores = self.llm.score_choices(read, [q.choices for q in asked])
            del read  # a cache may have a gigabyte
            yield [
                Answer(
                    id=recording.id,
                    condition=condition,
                    seconds=length,
                    audio_tokens=len(row),
                    kept=tuple(indices.tolist()),
                    order=tuple(
                        recording.question.choices.index(text) for text in question.choices
                    ),
                    scores=tuple(likely.tolist()),
                    answer=question.answer,
                )
                for recording, question, length, row, indices, likely in zip(
                    recordings, asked, seconds, tokens, kept, scores, strict=True
                )
            ]

    def _embed(self, text: str) -> Tensor:
        """Text in the place of audio, with the blank before it that the layout asks for."""
        if not text:
            return self.llm.empty_audio()
        return self.llm.embed_text(self.llm.answer_lead + text)

    def _text(self, question: Question) -> str:
        choices = "\n".join(
            f"{letter}. {text}" for letter, text in zip(LETTERS, question.choices, strict=False)
        )
        return self.prompt.replace("{question}", question.question).replace("{choices}", choices)
