"""Word and character error rates: all errors over all reference words, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espnet_prune.evaluate.metrics.bootstrap import (
    RESAMPLES,
    interval,
    ratio_of_sums,
    resampled_ratios,
)
from espnet_prune.extras import load_extra

ALIGNERS = {"word": "process_words", "char": "process_characters"}  # unit -> function of jiwer


@dataclass(frozen=True)
class ErrorCounts:
    """Counts per utterance, each an integer array of shape (utterances,)."""

    hits: np.ndarray
    substitutions: np.ndarray
    deletions: np.ndarray
    insertions: np.ndarray

    def __len__(self) -> int:
        return len(self.hits)

    @property
    def errors(self) -> np.ndarray:
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> np.ndarray:
        return self.hits + self.substitutions + self.deletions


@dataclass(frozen=True)
class ErrorRate:
    """An error rate and its 95% confidence interval, as fractions, and counts of words (WER) or
    characters (CER)."""

    errors: int
    reference_length: int
    rate: float
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.rate


@dataclass(frozen=True)
class ErrorRateDifference:
    """The second system's error rate minus the first's, as fractions; negative is better.

    ``improvement`` is the share of resamples in which the second system is strictly better.
    """

    difference: float
    low: float
    high: float
    improvement: float


def pairs(references: Sequence, hypotheses: Sequence) -> list[tuple]:
    """Each reference with its hypothesis (ValueError: different numbers of both)."""
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses")
    return list(zip(references, hypotheses, strict=True))


def count_errors(
    references: Sequence[str], hypotheses: Sequence[str], unit: str = "word"
) -> ErrorCounts:
    """Align each hypothesis with its reference by the least edit distance.

    Args:
        references: one text per utterance, normalised as wanted.
        hypotheses: as many texts, in the same order (ValueError: they are not).
        unit: "word", or "char" for characters, spaces included (ValueError: another one).
    """
    pairs(references, hypotheses)
    if unit not in ALIGNERS:
        raise ValueError(f"unit '{unit}' is neither 'word' nor 'char'")
    kinds = ("equal", "substitute", "delete", "insert")
    counts = np.zeros((len(kinds), len(references)), dtype=np.int64)
    aligned = getattr(load_extra("jiwer", "superb"), ALIGNERS[unit])
    alignments = aligned(list(references), list(hypotheses)).alignments if len(references) else []
    for utterance, chunks in enumerate(alignments):
        for chunk in chunks:
            reference = chunk.ref_end_idx - chunk.ref_start_idx
            hypothesis = chunk.hyp_end_idx - chunk.hyp_start_idx
            counts[kinds.index(chunk.type), utterance] += max(reference, hypothesis)
    return ErrorCounts(*counts)


def _rate(counts: ErrorCounts) -> float:
    total = counts.reference_length.sum()
    if total == 0:
        raise ValueError("the references hold no words: no error rate can be given")
    return float(counts.errors.sum() / total)


def error_rate(counts: ErrorCounts, resamples: int = RESAMPLES, seed: int = 0) -> ErrorRate:
    """The error rate of one system with its percentile bootstrap interval (ValueError: there is no
    reference word)."""
    _rate(counts)  # refuses empty references
    return rate_of(counts.errors, counts.reference_length, resamples, seed)


def rate_of(
    errors: np.ndarray, lengths: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> ErrorRate:
    """The error rate of errors and reference lengths, both of shape (utterances,)."""
    rate = ratio_of_sums(errors, lengths, resamples, seed)
    return ErrorRate(int(errors.sum()), int(lengths.sum()), rate.value, rate.low, rate.high)


def error_rate_difference(
    first: ErrorCounts, second: ErrorCounts, resamples: int = RESAMPLES, seed: int = 0
) -> ErrorRateDifference:
    """Paired bootstrap of two systems on the same utterances, in the same order (ValueError: they
    were scored against different references)."""
    if not np.array_equal(first.reference_length, second.reference_length):
        raise ValueError("the two systems were not scored against the same references")
    difference = _rate(second) - _rate(first)
    rates = resampled_ratios([first.errors, second.errors], first.reference_length, resamples, seed)
    delta = rates[1] - rates[0]
    return ErrorRateDifference(difference, *interval(delta), float((delta < 0).mean()))
