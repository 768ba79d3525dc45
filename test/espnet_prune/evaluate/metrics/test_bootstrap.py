import numpy as np
import pytest

from espnet_prune.evaluate.metrics.bootstrap import draw_counts, draws, ratio_of_sums


def test_two_units_by_hand():
    # Draws: both the first (1/4), both the second (1/4), one of each (1/2).
    result = ratio_of_sums(np.array([1, 0]), np.array([2, 2]))
    assert (result.value, result.low, result.high) == (0.25, 0.0, 0.5)


def test_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(3).normal(5, 1, 500)
    result = ratio_of_sums(values, np.ones(500))
    assert result.value == pytest.approx(values.mean())
    half_width = 1.96 * values.std() / np.sqrt(500)
    assert result.high - result.value == pytest.approx(half_width, rel=0.1)
    assert result.value - result.low == pytest.approx(half_width, rel=0.1)


def test_counts_are_those_of_the_draws():
    blocks = zip(draws(7, 50, seed=2), draw_counts(7, 50, seed=2), strict=True)
    for draw, counts in blocks:
        assert counts.shape == draw.shape
        for row, count in zip(draw, counts, strict=True):
            assert [row.tolist().count(unit) for unit in range(7)] == count.tolist()


def test_blocks_stay_small_and_add_up():
    blocks = list(draws(1000, 30, seed=0, width=500_000))
    assert [len(block) for block in blocks] == [4] * 7 + [2]


def test_nothing_to_score():
    with pytest.raises(ValueError, match="nothing to score"):
        ratio_of_sums(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="nothing to score"):
        ratio_of_sums(np.array([1.0]), np.array([0.0]))
