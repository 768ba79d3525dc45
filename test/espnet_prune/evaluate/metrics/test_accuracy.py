import numpy as np
import pytest

from espnet_prune.evaluate.metrics.accuracy import accuracy, correct


def test_by_hand():
    right = correct(["yes", "no", "up", "up"], ["yes", "on", "up", "down"])
    assert right.tolist() == [True, False, True, False]
    assert accuracy([right]).value == 0.5


def test_a_fold_counts_as_one_however_large():
    folds = [np.array([True]), np.array([False] * 9 + [True])]
    assert accuracy(folds).value == pytest.approx((1 + 0.1) / 2)


def test_folds_are_drawn_by_themselves():
    # Nothing varies inside these folds, though their accuracies differ.
    result = accuracy([np.ones(5, dtype=bool), np.zeros(5, dtype=bool)])
    assert (result.value, result.low, result.high) == (0.5, 0.5, 0.5)


def test_interval_over_folds_agrees_with_the_binomial_one():
    generator = np.random.default_rng(5)
    folds = [generator.random(size) < 0.7 for size in (300, 500)]
    result = accuracy(folds)
    variance = sum(f.mean() * (1 - f.mean()) / len(f) for f in folds) / 4
    assert result.high - result.low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.1)


def test_errors():
    with pytest.raises(ValueError, match="1 references but 2"):
        correct(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="no utterances to score"):
        accuracy([])
    with pytest.raises(ValueError, match="a fold has no utterances"):
        accuracy([np.array([True]), np.array([], dtype=bool)])
