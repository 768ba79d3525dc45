"""Bootstrap confidence intervals: draw units with replacement, take percentiles of the measure.

A unit is what is drawn as a whole: an utterance for error rates, accuracies and slots, a
recording for diarization, a query for term-weighted values, a speaker or a trial for
verification. Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance
evaluation" (ICASSP 2004), describe it for word error rates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
# For measures that run over all scores anew in each resample (EER and MTWV).
FEWER_RESAMPLES = 2_000
CONFIDENCE = 0.95
_BLOCK = 2_000_000  # numbers held in memory at a time


@dataclass(frozen=True)
class Estimate:
    """A measure and its 95% confidence interval, in the unit of the measure."""

    value: float
    low: float
    high: float


def draws(units: int, resamples: int, seed: int, width: int = 0) -> Iterator[np.ndarray]:
    """Blocks of drawn unit indices, each of shape (resamples in the block, units).

    Args:
        units: number of units to draw from, and to draw.
        resamples: number of draws in all blocks together.
        width: numbers that the caller holds for one resample, if they are more than units.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // max(units, width))
    for start in range(0, resamples, rows):
        yield generator.integers(units, size=(min(rows, resamples - start), units))


def draw_counts(units: int, resamples: int, seed: int, width: int = 0) -> Iterator[np.ndarray]:
    """As `draws`, but how often each unit is drawn: integers of shape (resamples, units)."""
    for draw in draws(units, resamples, seed, width):
        rows = len(draw)
        flat = (draw + units * np.arange(rows)[:, None]).ravel()
        yield np.bincount(flat, minlength=rows * units).reshape(rows, units)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The ends of the percentile interval of resampled values, shape (resamples,)."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def resampled_ratios(
    numerators: Sequence[np.ndarray],
    denominator: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Sum over sum on the same draws for one or more systems, shape (systems, resamples).

    Args:
        numerators: for each system, values of shape (units,), e.g. errors.
        denominator: not negative, shape (units,), e.g. reference words.
    """
    ratios = []
    for draw in draws(len(denominator), resamples, seed):
        totals = denominator[draw].sum(axis=1)
        # A draw of nothing but empty references has no ratio: count it over one.
        totals = np.where(totals > 0, totals, 1)
        ratios.append([numerator[draw].sum(axis=1) / totals for numerator in numerators])
    return np.concatenate(ratios, axis=1)


def ratio_of_sums(
    numerator: np.ndarray, denominator: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The sum of one value over the sum of another, both of shape (units,), with its interval
    (ValueError: the denominator sums to zero, or there is no unit)."""
    total = denominator.sum()
    if total <= 0:
        raise ValueError("there is nothing to score: the references are empty")
    ratios = resampled_ratios([numerator], denominator, resamples, seed)[0]
    return Estimate(float(numerator.sum() / total), *interval(ratios))
