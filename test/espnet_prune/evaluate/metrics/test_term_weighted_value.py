import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.evaluate.metrics.term_weighted_value import (
    BETA,
    actual_term_weighted_value,
    maximum_term_weighted_value,
)


def by_definition(scores, targets, threshold, beta):
    values = []
    for row, held in zip(scores, targets, strict=True):
        if not any(held):
            continue
        pairs = list(zip(row, held, strict=True))
        others = held.count(False)
        missed = sum(h and s < threshold for s, h in pairs) / held.count(True)
        alarms = sum(not h and s >= threshold for s, h in pairs) / others if others else 0
        values.append(1 - missed - beta * alarms)
    return sum(values) / len(values)


@st.composite
def searches(draw):
    documents = draw(st.integers(1, 6))
    rows = draw(st.integers(1, 5))
    matrix = lambda of: st.lists(  # noqa: E731
        st.lists(of, min_size=documents, max_size=documents), min_size=rows, max_size=rows
    )
    scores, targets = draw(matrix(st.integers(0, 5))), draw(matrix(st.booleans()))
    return scores, targets


def test_costs_are_those_of_quesst_2014():
    assert BETA == pytest.approx(12.49)


def test_by_hand():
    scores = np.array([[0.9, 0.2, 0.4, 0.1], [0.8, 0.7, 0.6, 0.0]])
    targets = np.array([[1, 1, 0, 0], [0, 1, 0, 0]], dtype=bool)
    # At 0.7 the first query has one of two and no false alarm, the second its one and 1 of 3.
    value = actual_term_weighted_value(scores, targets, 0.7, beta=0.3).value
    assert value == pytest.approx((0.5 + 1 - 0.3 / 3) / 2)
    # Lower, the first query loses 0.3/2 at 0.4 and gains 0.5 at 0.2, the second loses at 0.6.
    best, threshold = maximum_term_weighted_value(scores, targets, beta=0.3)
    assert best.value == pytest.approx((1 - 0.3 / 2 + 1 - 2 * 0.3 / 3) / 2)
    assert threshold == 0.2


def test_with_real_costs_nothing_may_be_best():
    scores, targets = np.array([[0.9, 0.5]]), np.array([[False, True]])
    best, threshold = maximum_term_weighted_value(scores, targets)
    assert (best.value, best.low, best.high) == (0, 0, 0)
    assert threshold > 0.9
    assert actual_term_weighted_value(scores, targets, threshold).value == 0


@settings(max_examples=60, deadline=None)
@given(searches(), st.sampled_from([0.3, 1.0, BETA]))
def test_agrees_with_the_definition(search, beta):
    scores, targets = search
    arrays = np.array(scores, dtype=float), np.array(targets, dtype=bool)
    if not arrays[1].any():
        with pytest.raises(ValueError, match="nothing to find"):
            maximum_term_weighted_value(*arrays)
        return
    values = {t: by_definition(scores, targets, t, beta) for t in range(7)}
    for threshold, value in values.items():
        found = actual_term_weighted_value(*arrays, threshold, beta=beta, resamples=5)
        assert found.value == pytest.approx(value)
    best, threshold = maximum_term_weighted_value(*arrays, beta=beta, resamples=5)
    assert best.value == pytest.approx(max(values.values()))
    again = actual_term_weighted_value(*arrays, threshold, beta=beta, resamples=5)
    assert again.value == pytest.approx(best.value)


def test_interval_is_over_queries():
    # Half of the queries are found and half are not: a draw's value is the share of the former.
    scores = np.tile([[0.0, -1.0]], (40, 1))
    targets = np.zeros((40, 2), dtype=bool)
    targets[:, 0] = True
    scores[20:, 0] = -2.0
    best, _ = maximum_term_weighted_value(scores, targets)
    assert best.value == 0.5
    half_width = 1.96 * np.sqrt(0.25 / 40)
    assert (best.high - best.low) / 2 == pytest.approx(half_width, rel=0.15)
    atwv = actual_term_weighted_value(scores, targets, -0.5)
    assert (atwv.high - atwv.low) / 2 == pytest.approx(half_width, rel=0.15)


def test_errors():
    with pytest.raises(ValueError, match="shape"):
        maximum_term_weighted_value(np.zeros((2, 3)), np.zeros((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="finite"):
        actual_term_weighted_value(np.array([[np.inf]]), np.array([[True]]), 0.0)
