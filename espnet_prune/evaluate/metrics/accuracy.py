"""Accuracy of classification, over one test set or as the mean over folds."""

from collections.abc import Hashable, Sequence

import numpy as np

from espnet_prune.evaluate.metrics.bootstrap import Estimate, interval, resampled_ratios
from espnet_prune.evaluate.metrics.error_rate import pairs


def correct(references: Sequence[Hashable], hypotheses: Sequence[Hashable]) -> np.ndarray:
    """Whether each label is right as a whole, shape (utterances,); errors as of `pairs`."""
    return np.array(
        [wanted == given for wanted, given in pairs(references, hypotheses)], dtype=bool
    )


def accuracy(folds: Sequence[np.ndarray]) -> Estimate:
    """The mean over folds of the share of right labels, as a fraction, with its interval.

    Each fold counts the same however many utterances it has, as in IEMOCAP's five folds; the
    utterances of each fold are drawn by themselves. One fold is a plain accuracy.

    Args:
        folds: for each fold, whether each label is right, shape (utterances,). That there is none,
            or one without utterance, is a ValueError.
    """
    if not folds or not all(map(len, folds)):
        raise ValueError("a fold has no utterances" if folds else "no utterances to score")
    values = []
    for number, fold in enumerate(folds):
        right = fold.astype(np.int64)
        values.append(resampled_ratios([right], np.ones_like(right), seed=number)[0])
    mean = float(np.mean([fold.mean() for fold in folds]))
    return Estimate(mean, *interval(np.mean(values, axis=0)))
