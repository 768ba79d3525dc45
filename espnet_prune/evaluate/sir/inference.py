"""Answer questions about recordings under many conditions with one speech LLM.

`answer_questions` does what `bin.sir_inference` is asked for; `draw_tokens` looks at one recording
under one condition.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from espnet_prune.data.data_dir import read_scp, read_table
from espnet_prune.data.sir.directory import data_mark
from espnet_prune.data.sir.questions import LETTERS, Question, Recording, read_recordings, shuffled
from espnet_prune.evaluate.sir import conditions
from espnet_prune.evaluate.sir.answers import Answer, AnswerFile
from espnet_prune.evaluate.sir.conditions import HEARD, TRANSCRIPT, WHOLE, Condition
from espnet_prune.evaluate.sir.plots import plot_tokens, tsne
from espnet_prune.evaluate.sir.protocols import (
    LETTER,
    LETTER_TOKENS,
    LIKELIHOOD,
    PROMPTS,
    check_protocol,
)
from espnet_prune.evaluate.speech_llms import kind_of, load_speech_llm, model_mark
from espnet_prune.files.freshness import code_of
from espnet_prune.speech_llm import POSITIONS, Heard, Read, SpeechLLM
from espnet_prune.tokens import TokenPruner

logger = logging.getLogger(__name__)


@dataclass
class Settings:
    """The options of `bin.sir_inference`, which explains them.

    `strategies` and `rates` are lists, or words with blanks between them. The prompt is that of the
    protocol where none is given. A value that is out of its range is a ValueError.
    """

    data_dir: Path
    speech_llm: str
    speech_llm_conf: dict = field(default_factory=dict)
    token_pruner: str = "none"
    token_pruner_conf: dict = field(default_factory=dict)
    strategies: str | Sequence | None = None
    rates: str | Sequence | None = None
    protocol: str = LIKELIHOOD
    prompt: str | None = None
    positions: str = POSITIONS[0]
    seed: int = 0
    batch_size: int = 1

    def __post_init__(self):
        self.data_dir = Path(self.data_dir)
        self.kind: type[SpeechLLM] = kind_of(self.speech_llm)
        if self.positions not in POSITIONS:
            raise ValueError(f"positions is '{self.positions}', choose from {', '.join(POSITIONS)}")
        if self.batch_size < 1:
            raise ValueError(f"--batch_size is {self.batch_size}; give 1 or more")
        if self.prompt is None:
            self.prompt = PROMPTS.get(self.protocol, "")
        check_protocol(self.protocol, self.prompt)

    def conditions(self) -> list[Condition]:
        """The conditions that are asked for; errors as of `conditions.single` and `grid`."""
        strategies, rates = _words(self.strategies), _words(self.rates)
        if not strategies and not rates:
            return [conditions.single(self.token_pruner, self.token_pruner_conf)]
        try:
            numbers = [float(rate) for rate in rates]
        except ValueError:
            raise ValueError(f"rates are '{' '.join(rates)}', but have to be numbers") from None
        given = sorted({"rate", "keep"} & set(self.token_pruner_conf))
        if given:
            raise ValueError(f"token_pruner_conf has {given[0]}, but strategies and rates say that")
        found = conditions.grid(strategies, numbers, self.kind.recognises)
        has_text = (self.data_dir / "text").is_file()
        return [c for c in found if c != TRANSCRIPT or has_text]

    def load(self) -> SpeechLLM:
        """Load the speech LLM; errors as of `load_speech_llm`."""
        return load_speech_llm(self.speech_llm, self.speech_llm_conf)

    def header(self) -> dict:
        """What answers depend on besides their conditions, and how to read token numbers as times:
        `frame_tokens`, None where audio tokens are not stretches of time."""
        conf = {k: v for k, v in self.token_pruner_conf.items() if k not in ("rate", "keep")}
        return {
            "speech_llm": self.speech_llm,
            "speech_llm_conf": model_mark(self.speech_llm_conf),
            "token_pruner_conf": conf,
            "data_dir": data_mark(self.data_dir),
            "protocol": self.protocol,
            "prompt": self.prompt,
            "positions": self.positions,
            "seed": self.seed,
            "code": code_of("data", "evaluate/sir", "speech_llm", "structured", "tokens"),
            "frame_tokens": self.kind.frame_tokens if self.kind.in_time else None,
        }


def _words(value: str | Sequence | None) -> list[str]:
    """A YAML list or number, or words with blanks between them."""
    if value is None:
        return []
    return list(map(str, value)) if isinstance(value, list | tuple) else str(value).split()


@torch.inference_mode()
def answer_questions(
    settings: Settings, output_dir: str | Path, key_file: str | Path | None = None
) -> None:
    """Answer the questions of a data directory, or of a part of it, into answers.NAME.jsonl.

    Existing answers, also those in files of other parts, are not computed again.

    Args:
        key_file: items to answer, one a line; NAME is its name without the ending, else "all".
    """
    wanted = settings.conditions()
    pruners = {c: conditions.pruner(c, settings.token_pruner_conf) for c in wanted}
    keys = list(read_table(key_file)) if key_file else None
    recordings = read_recordings(settings.data_dir, keys)
    if TRANSCRIPT in wanted:
        for recording in recordings:
            recording.written(TRANSCRIPT.input)
    name = Path(key_file).stem if key_file else "all"
    file = AnswerFile(Path(output_dir) / f"answers.{name}.jsonl", settings.header())
    left = [(r, tuple(c for c in wanted if (r.id, c) not in file.done)) for r in recordings]
    number, every = sum(len(missing) for _, missing in left), len(recordings) * len(wanted)
    if number < every:
        logger.info("%d of %d answers exist already", every - number, every)
    if number:
        llm = settings.load()
        asks = settings.prompt, settings.seed, settings.positions, settings.protocol
        answerer = Answerer(llm, *asks)
        with tqdm(total=number, unit="answer", mininterval=5) as bar:
            for batch, missing in batches(left, settings.batch_size):
                for answers in answerer(batch, [(c, pruners[c]) for c in missing]):
                    file.add(answers)
                    bar.update(len(answers))
    logger.info("%s: %d items under %d conditions", file.path, len(recordings), len(wanted))


def batches(
    left: Sequence[tuple[Recording, tuple[Condition, ...]]], size: int
) -> list[tuple[list[Recording], tuple[Condition, ...]]]:
    """Batches of neighbours that lack the same answers."""
    found = []
    for missing, rows in itertools.groupby(filter(itemgetter(1), left), itemgetter(1)):
        recordings = [recording for recording, _ in rows]
        starts = range(0, len(recordings), size)
        found += [(recordings[start : start + size], missing) for start in starts]
    return found


@torch.inference_mode()
def draw_tokens(settings: Settings, plot: str | Path, item: str | None = None) -> None:
    """Draw kept audio tokens, dropped ones and the question's of a recording in a plane.

    t-SNE as in Figure 2 of SpeechPrune (arXiv 2412.12009), under the one condition of
    `token_pruner`.

    Args:
        plot: PNG file to write.
        item: id of the recording; the first when absent.
    """
    condition = conditions.single(settings.token_pruner, settings.token_pruner_conf)
    pruner = conditions.pruner(condition, settings.token_pruner_conf)
    name = item or next(iter(read_scp(settings.data_dir / "wav.scp")))
    (recording,) = read_recordings(settings.data_dir, [name])
    llm = settings.load()
    audio = llm.hear(recording.load(llm.sampling_rate), llm.sampling_rate).tokens
    question = recording.question.question
    (kept,) = llm.select(pruner, [audio], [question], [name])
    stays = torch.zeros(len(audio), dtype=torch.bool, device=audio.device)
    stays[kept] = True
    groups = {
        "dropped audio tokens": audio[~stays],
        "kept audio tokens": audio[stays],
        "text tokens of the question": llm.embed_text(question),
    }
    arrays: dict[str, np.ndarray] = {k: rows.float().cpu().numpy() for k, rows in groups.items()}
    plot_tokens(tsne(arrays, settings.seed), Path(plot), f"{name}, {condition.name}")
    logger.info("%s: %d of %d audio tokens are kept", plot, len(kept), len(audio))


def _begins(condition: Condition) -> bool:
    """Whether the prompt begins with the recording's first tokens as they are."""
    return condition == WHOLE or condition.strategy == "crop"


@dataclass
class Answerer:
    """Puts questions to a speech LLM; scores every choice by its text, or takes down what is said.

    Choices are shuffled by `seed` and id before anything sees them. The pruner compares audio with
    the question alone, whatever else stands in the prompt.

    Args:
        prompt: what is asked: "{question}", which has to be in it, is replaced, and so is
            "{choices}" by the choices with letters, a line each, where it occurs.
        seed: of the order of choices.
        positions: see `SpeechLLM.prompts`.
        protocol: one of `protocols.PROTOCOLS`; `letter` needs the choices in the prompt.
    """

    llm: SpeechLLM
    prompt: str = PROMPTS[LIKELIHOOD]
    seed: int = 0
    positions: str = POSITIONS[0]
    protocol: str = LIKELIHOOD

    def __post_init__(self):
        check_protocol(self.protocol, self.prompt)

    def __call__(
        self, recordings: Sequence[Recording], pruners: Sequence[tuple[Condition, TokenPruner]]
    ) -> Iterator[list[Answer]]:
        """Answers to a batch under one condition after another; the audio is encoded once.

        The beginnings of a recording (`crop`) come right after the whole, if that is asked for:
        they begin as it does, and continue its cache. Where the input of a condition is not speech
        its pruner is not used.
        """
        fs = self.llm.sampling_rate
        speech = [r.load(fs) for r in recordings]
        asked = [shuffled(r.question, self.seed) for r in recordings]
        shown = list(map(self._text, asked))
        heard: list[Heard] = []
        whole: Read | None = None
        for condition, pruner in sorted(pruners, key=lambda pair: not _begins(pair[0])):
            if condition.input in ("speech", "heard") and not heard:
                heard = [self.llm.hear(samples, fs) for samples in speech]
            if condition.input == "speech":
                tokens = [each.tokens for each in heard]
                queries = [r.question.question for r in recordings]
                names = [r.id for r in recordings]
                outcomes = self.llm.outcomes(pruner, tokens, queries, names)
            else:
                texts = [each.words for each in heard]
                if condition.input != "heard":
                    texts = [r.written(condition.input) for r in recordings]
                tokens = [self.llm.written_audio(text) for text in texts]
                outcomes = None
            prompts = self.llm.prompts(tokens, shown, outcomes=outcomes, positions=self.positions)
            scores: list[tuple[float, ...]] = [() for _ in asked]
            said: list[str | None] = [None for _ in asked]
            if self.protocol == LETTER:
                said = [*self.llm.generate(prompts, LETTER_TOKENS)]
            else:
                if not _begins(condition):
                    whole = None
                read = self.llm.read(prompts, whole)
                if condition == WHOLE:
                    whole = read
                likely = self.llm.score_choices(read, [q.choices for q in asked])
                scores = [tuple(row.tolist()) for row in likely]
                del read  # a cache may have a gigabyte
            nothing = [None] * len(recordings)
            spoken = [each.spoken for each in heard] if condition == WHOLE else nothing
            words = [each.words for each in heard] if condition == HEARD else nothing
            yield [
                Answer(
                    id=recording.id,
                    condition=condition,
                    seconds=len(samples) / fs,
                    audio_tokens=len(row),
                    kept=tuple(indices.tolist()),
                    order=tuple(map(recording.question.choices.index, question.choices)),
                    scores=likely,
                    answer=question.answer,
                    said=text,
                    spoken=None if at is None else tuple(at.nonzero()[:, 0].tolist()),
                    words=own,
                )
                for recording, question, samples, row, indices, likely, text, at, own in zip(
                    *(recordings, asked, speech, tokens, prompts.kept),
                    *(scores, said, spoken, words),
                    strict=True,
                )
            ]

    def _text(self, question: Question) -> str:
        lines = map("{}. {}".format, LETTERS, question.choices)
        prompt = self.prompt.replace("{question}", question.question)
        return prompt.replace("{choices}", "\n".join(lines))
