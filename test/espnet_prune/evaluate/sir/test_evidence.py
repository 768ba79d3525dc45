import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.data.sir.span import Span
from espnet_prune.evaluate.sir.evidence import evidence_recall, token_span


def test_by_hand():
    # 2.0 to 3.0 s at 25 tokens a second are tokens 50 to 74
    assert token_span(Span(2.0, 3.0), 25, 1000) == (50, 75)
    assert token_span(Span(2.01, 2.99), 25, 1000) == (50, 75)
    assert token_span(Span(2.0, 9.0), 25, 100) == (50, 100)
    assert evidence_recall(torch.arange(60, 80), Span(2.0, 3.0), 25, 1000) == 15 / 25
    assert evidence_recall([0, 1], Span(2.0, 3.0), 25, 1000) == 0.0


@given(st.sets(st.integers(0, 99)), st.floats(0, 3.9), st.floats(0.01, 3))
def test_between_none_and_all(kept, start, length):
    recall = evidence_recall(sorted(kept), Span(start, start + length), 25, 100)
    assert 0 <= recall <= 1
    assert evidence_recall(range(100), Span(start, start + length), 25, 100) == 1


def test_errors():
    with pytest.raises(ValueError, match="is none"):
        Span(3.0, 3.0)
    with pytest.raises(ValueError, match="begins at 9 s, but the recording ends at 4 s"):
        token_span(Span(9.0, 10.0), 25, 100)
