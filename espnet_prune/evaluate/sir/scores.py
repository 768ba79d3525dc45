"""Accuracies of a grid of conditions, what they are compared with, and evidence recall."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from torch import Tensor

from espnet_prune.data.data_dir import read_table
from espnet_prune.data.sir.questions import Question
from espnet_prune.data.sir.speech import Span
from espnet_prune.evaluate.metrics import bootstrap
from espnet_prune.evaluate.metrics.accuracy import accuracy
from espnet_prune.evaluate.metrics.bootstrap import Estimate
from espnet_prune.evaluate.sir.answers import Answer
from espnet_prune.evaluate.sir.conditions import Condition
from espnet_prune.files.reading import parse_json


@dataclass(frozen=True)
class Comparison:
    """Accuracy of one condition minus that of another, on the same items.

    Attributes:
        difference: with its paired bootstrap interval, as fractions.
        gained, lost: items that only the first, only the second has right.
        p: of McNemar's exact test, two-sided.
    """

    difference: Estimate
    gained: int
    lost: int
    p: float


def compare(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Comparison:
    """Compare two conditions.

    McNemar (1947), exact: of the items on which the two differ, each is as likely to fall to the
    one as to the other if they are equally good.

    Args:
        first, second: (items,) bool, whether each answer is right, in the same order (ValueError:
            different numbers of items, or none).
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(f"{len(first)} answers cannot be compared with {len(second)}")
    rates = bootstrap.resampled_ratios([first, second], np.ones(len(first)), seed=seed)
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    p = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    ends = bootstrap.interval(rates[0] - rates[1])
    difference = Estimate(float(first.mean() - second.mean()), *ends)
    return Comparison(difference, gained, lost, float(p))


def by_condition(answers: Sequence[Answer]) -> dict[Condition, list[Answer]]:
    """Answers of every condition, sorted by id (ValueError: conditions with different items:
    inference has not ended)."""
    found: dict[Condition, dict[str, Answer]] = {}
    for answer in answers:
        found.setdefault(answer.condition, {})[answer.id] = answer
    everything = set().union(*found.values())
    for condition, rows in found.items():
        if len(rows) < len(everything):
            missing = min(everything - rows.keys())
            few = f"condition '{condition.name}' has {len(rows)} of {len(everything)} items"
            raise ValueError(f"{few}, {missing} is not among them: run inference to its end")
    return {c: [rows[name] for name in sorted(rows)] for c, rows in found.items()}


def right(answers: Sequence[Answer]) -> np.ndarray:
    """(items,) bool."""
    return np.array([answer.right for answer in answers], dtype=bool)


def right_by_pmi(answers: Sequence[Answer], without: Sequence[Answer]) -> np.ndarray:
    """(items,) bool: whether the audio makes the right choice more likely than all others.

    Pointwise mutual information, by token (PMI_DC, arXiv 2104.08315): a text that is likely
    whatever was heard is not an answer for that.

        argmax_c (1 / L_c) [log p(c | audio, question) - log p(c | question)]

    Args:
        without: answers to the same items without audio, in the same order (ValueError: other
            items, or choices in another order).
    """
    found = []
    for answer, prior in zip(answers, without, strict=True):
        if (answer.id, answer.order) != (prior.id, prior.order):
            own = f"{answer.id}: its choices stand in the order {list(answer.order)}"
            other = f"without audio ({prior.id}) in {list(prior.order)}"
            raise ValueError(f"{own}, {other}: run inference again, into an empty folder")
        gains = np.subtract(answer.scores, prior.scores)
        found.append(int(gains.argmax()) == answer.answer)
    return np.array(found, dtype=bool)


def majority(places: Sequence[int]) -> tuple[int, Estimate]:
    """The most frequent place of the right choice, and the accuracy of always taking it."""
    place, _ = Counter(places).most_common(1)[0]
    return place, accuracy([np.array([p == place for p in places], dtype=bool)])


def chance(questions: Sequence[Question]) -> float:
    """Accuracy of drawing a choice."""
    return float(np.mean([1 / len(question.choices) for question in questions]))


def read_evidence(path: str | Path) -> dict[str, Span]:
    """Where each key sentence is, of a data directory's file `sentences` (ValueError: a line
    without a key's times)."""
    spans = {}
    for name, value in read_table(path).items():
        try:
            start, end = parse_json(value)["key"]
            spans[name] = Span(float(start), float(end))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: {name}: no times of a key sentence ({error})") from None
    return spans


def token_span(span: Span, frame_tokens: float, tokens: int) -> tuple[int, int]:
    """Numbers of the tokens that overlap a span, [first, last + 1), of a recording of `tokens` at
    `frame_tokens` a second (ValueError: the span begins after the recording)."""
    # 1e-6 of a token: times are written with a limited number of digits
    first = math.floor(span.start * frame_tokens + 1e-6)
    end = math.ceil(span.end * frame_tokens - 1e-6)
    if first >= tokens:
        end_of_all = f"the recording ends at {tokens / frame_tokens:g} s"
        raise ValueError(f"the key sentence begins at {span.start:g} s, but {end_of_all}")
    return first, min(max(end, first + 1), tokens)


def evidence_recall(
    kept: Tensor | Sequence[int],
    span: Span,
    frame_tokens: float,
    tokens: int,
    spoken: Sequence[int] | None = None,
) -> float:
    """The share of the key sentence's tokens that are kept, in [0, 1].

    Args:
        kept: numbers of the kept tokens of a recording of `tokens` audio tokens.
        spoken: numbers of the tokens that are words: only these count. All do where it is None, or
            no word is heard in the sentence.
    """
    first, end = token_span(span, frame_tokens, tokens)
    evidence = set(range(first, end))
    evidence = evidence & set(spoken or ()) or evidence
    return len(evidence & set(map(int, kept))) / len(evidence)


def recalls(
    answers: Sequence[Answer],
    spans: Mapping[str, Span],
    frame_tokens: float | None,
    spoken: Mapping[str, Sequence[int]] | None = None,
) -> np.ndarray | None:
    """(items,) evidence recall; None where the input is not speech, an item has no times, or audio
    tokens are not stretches of time (`frame_tokens` is None).

    Args:
        spoken: of items whose words are known, see `evidence_recall`.
    Raises:
        ValueError: a number of audio tokens that is not that of the time: times would be wrong.
    """
    values = []
    for answer in answers:
        if answer.condition.input != "speech" or answer.id not in spans or frame_tokens is None:
            return None
        expected = answer.seconds * frame_tokens
        if abs(answer.audio_tokens - expected) > max(2, 0.02 * expected):
            made = f"{answer.audio_tokens} audio tokens for {answer.seconds:g} s"
            raise ValueError(f"{answer.id}: {made}, which are not {frame_tokens:g} a second")
        span, words = spans[answer.id], (spoken or {}).get(answer.id)
        found = evidence_recall(answer.kept, span, frame_tokens, answer.audio_tokens, words)
        values.append(found)
    return np.array(values)


def mean(values: np.ndarray) -> Estimate:
    """The mean over items with its bootstrap interval."""
    return bootstrap.ratio_of_sums(values, np.ones(len(values)))
