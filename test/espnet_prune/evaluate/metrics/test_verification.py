import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.evaluate.metrics.verification import equal_error_rate

TRIALS = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=30).filter(
    lambda rows: 0 < sum(target for _, target in rows) < len(rows)
)


def eer(scores, targets):
    return equal_error_rate(np.array(scores), np.array(targets, dtype=bool), resamples=60).value


def reference_eer(scores, targets):
    """By scikit-learn's ROC curve and a root finder, as is usual in speaker verification."""
    metrics = pytest.importorskip("sklearn.metrics")
    from scipy.optimize import brentq

    alarms, hits, _ = metrics.roc_curve(targets, scores, drop_intermediate=False)
    # Along the curve, so that vertical pieces are no trouble.
    along = np.arange(len(alarms))

    def gap(x):
        return np.interp(x, along, alarms) - 1 + np.interp(x, along, hits)

    return np.interp(brentq(gap, 0, along[-1]), along, alarms)


@pytest.mark.parametrize(
    ("scores", "targets", "expected"),
    [
        ([4, 3, 2, 1], [1, 1, 0, 0], 0.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 1.0),
        ([4, 3, 2, 1], [1, 0, 1, 0], 0.5),
        ([1, 1, 1], [1, 0, 0], 0.5),  # tied: the line from all missed to all accepted
        # Misses 2/3, 2/3, 1/3, 0 and false alarms 0, 1/2, 1/2, 1/2 going down the scores.
        ([9, 8, 5, 4, 3], [1, 0, 1, 1, 0], 0.5),
        # Between (0, 2/3) and (1/3, 0): they meet where f = 2/3 - 2 f.
        ([9, 5, 5, 5, 1, 0], [1, 1, 1, 0, 0, 0], 2 / 9),
    ],
)
def test_by_hand(scores, targets, expected):
    assert eer(scores, targets) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(TRIALS)
def test_agrees_with_scikit_learn(rows):
    scores, targets = map(np.array, zip(*rows, strict=True))
    metrics = pytest.importorskip("sklearn.metrics")
    rate = eer(scores, targets)
    assert rate == pytest.approx(reference_eer(scores, targets), abs=1e-9)
    alarms, misses, _ = metrics.det_curve(targets, scores)
    # The crossing lies between the points of the DET curve around it.
    if len(np.unique(scores)) > 1 and (alarms >= misses).any() and (alarms <= misses).any():
        assert np.minimum(alarms, misses).max() - 1e-9 <= rate
        assert rate <= np.maximum(alarms, misses).min() + 1e-9


@settings(max_examples=40, deadline=None)
@given(TRIALS)
def test_symmetries(rows):
    scores, targets = map(np.array, zip(*rows, strict=True))
    rate = eer(scores, targets)
    assert eer(3.0 * scores + 1, targets) == pytest.approx(rate)
    assert eer(-scores, ~targets) == pytest.approx(rate)
    assert eer(-scores, targets) == pytest.approx(1 - rate)


def test_real_size_agrees_with_scikit_learn():
    generator = np.random.default_rng(0)
    targets = generator.random(5000) < 0.5
    scores = generator.normal(targets * 2.0, 1)
    rate = equal_error_rate(scores, targets, resamples=300)
    assert rate.value == pytest.approx(reference_eer(scores, targets), abs=1e-9)
    # Phi(-1) for two normal distributions two deviations apart.
    assert rate.low < 0.1587 < rate.high
    assert 0.5 < (rate.high - rate.low) / (4 * np.sqrt(0.16 * 0.84 / 5000)) < 1.5


def test_drawing_speakers_is_repeating_their_trials():
    scores = np.array([5.0, 3.0, 1.0, 4.0, 2.0, 0.0, 2.5, 3.5])
    targets = np.array([1, 1, 1, 0, 0, 0, 0, 1], dtype=bool)
    speakers = np.array(["aa", "bb", "cc", "ab", "bc", "ac", "ba", "aa"])
    speakers = np.array([list(pair) for pair in speakers])
    values = []
    for draw in itertools.product("abc", repeat=3):
        times = [draw.count(a) if a == b else draw.count(a) * draw.count(b) for a, b in speakers]
        kept = np.repeat(targets, times)
        if 0 < kept.sum() < len(kept):
            values.append(reference_eer(np.repeat(scores, times), kept))
    low, high = np.percentile(values, [2.5, 97.5], method="inverted_cdf")
    found = equal_error_rate(scores, targets, speakers, resamples=4000)
    assert found.value == pytest.approx(reference_eer(scores, targets))
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        ([1.0, 2.0], [1], "labels of trials"),
        ([1.0, float("nan")], [1, 0], "not a finite number"),
        ([1.0, 2.0], [1, 1], "one kind is missing"),
        ([1.0, 2.0], [0, 0], "one kind is missing"),
    ],
)
def test_errors(scores, targets, message):
    with pytest.raises(ValueError, match=message):
        eer(scores, targets)
