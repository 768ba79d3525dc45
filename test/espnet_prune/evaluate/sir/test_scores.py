import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.data.sir.questions import Question
from espnet_prune.data.sir.speech import Span
from espnet_prune.evaluate.sir.answers import Answer
from espnet_prune.evaluate.sir.conditions import NOTHING, WHOLE, Condition
from espnet_prune.evaluate.sir.scores import (
    by_condition,
    chance,
    compare,
    evidence_recall,
    majority,
    read_evidence,
    recalls,
    right_by_pmi,
    token_span,
)

HALF = Condition(strategy="rap", rate=0.5)


def answer(name, condition=HALF, kept=(), tokens=100, seconds=4.0):
    return Answer(name, condition, seconds, tokens, tuple(kept), (0, 1), (-1.0, -2.0), 0)


def bools(text):
    return np.array([c == "1" for c in text])


def test_mcnemar_and_the_paired_difference_by_hand():
    first, second = bools("1000011"), bools("0111111")
    found = compare(first, second)
    # one gained and four lost of five: 2 (C(5,0) + C(5,1)) / 2^5 = 12 / 32
    assert (found.gained, found.lost) == (1, 4) and found.p == pytest.approx(0.375)
    assert found.difference.value == pytest.approx(3 / 7 - 6 / 7)
    assert found.difference.low < -3 / 7 < found.difference.high <= 1


def test_a_condition_against_itself():
    found = compare(bools("1100"), bools("1100"))
    assert found.p == 1 and found.difference.low == found.difference.high == 0
    with pytest.raises(ValueError, match="2 answers cannot be compared with 3"):
        compare(bools("10"), bools("100"))


def test_the_letter_that_is_right_most_often():
    place, found = majority([1, 1, 0, 1, 3])
    assert place == 1 and found.value == pytest.approx(0.6)
    two, four = (Question("a", "q", tuple("abcd"[:n]), 0) for n in (2, 4))
    assert chance([two, four]) == pytest.approx(0.375)


SCORES = st.tuples(*[st.integers(-9, 0)] * 3)


@given(st.lists(st.tuples(SCORES, SCORES, SCORES, st.integers(0, 2)), min_size=1, max_size=5))
def test_what_makes_a_choice_likely_without_audio_changes_nothing(items):
    """Whatever is added to a choice's score with and without audio."""

    def rows(*columns):
        return [
            Answer(
                str(n), HALF, 4.0, 0, (), (0, 1, 2), tuple(map(sum, zip(*parts, strict=True))), a
            )
            for n, (*parts, a) in enumerate(zip(*columns, strict=True))
        ]

    gains, prior, more, answers = zip(*items, strict=True)
    expected = [max(range(3), key=gain.__getitem__) == a for gain, *_, a in items]
    found = right_by_pmi(rows(gains, prior, answers), rows(prior, answers))
    further = right_by_pmi(rows(gains, prior, more, answers), rows(prior, more, answers))
    assert found.tolist() == further.tolist() == expected


def test_every_condition_needs_every_item():
    rows = [answer("b"), answer("a"), answer("a", NOTHING)]
    with pytest.raises(ValueError, match="'nothing' has 1 of 2 items, b is not among them"):
        by_condition(rows)
    found = by_condition([*rows, answer("b", NOTHING)])
    assert [a.id for a in found[HALF]] == ["a", "b"]


def test_recall_of_the_evidence():
    spans = {"a": Span(1.0, 2.0), "b": Span(0.0, 0.4)}
    # 25 tokens a second: 25 to 49 and 0 to 9
    rows = [answer("a", kept=range(40, 80)), answer("b", kept=range(0, 100, 2))]
    np.testing.assert_allclose(recalls(rows, spans, 25), [10 / 25, 5 / 10])


def test_recall_of_words_where_they_are_known():
    spans = {"a": Span(1.0, 2.0), "b": Span(0.0, 0.4)}
    rows = [answer("a", kept=range(40, 80)), answer("b", kept=range(0, 100, 2))]
    # words of a at 25, 41 and 49, and beyond its sentence; none is heard in that of b
    said = {"a": (3, 25, 41, 49, 60), "b": (50,)}
    np.testing.assert_allclose(recalls(rows, spans, 25, said), [2 / 3, 5 / 10])
    np.testing.assert_allclose(recalls(rows, spans, 25, {"a": said["a"]}), [2 / 3, 5 / 10])


def test_recall_that_means_nothing():
    spans = {"a": Span(1.0, 2.0)}
    assert recalls([answer("a"), answer("c")], spans, 25) is None  # nobody knows its times
    assert recalls([answer("a", NOTHING)], spans, 25) is None
    assert recalls([answer("a")], spans, None) is None
    with pytest.raises(ValueError, match="a: 448 audio tokens for 4 s, which are not 25 a second"):
        recalls([answer("a", tokens=448)], spans, 25)


def test_times_of_key_sentences(tmp_path):
    path = tmp_path / "sentences"
    path.write_text("a " + json.dumps({"sentences": [], "key": [1, 2.5]}) + "\n")
    assert read_evidence(path) == {"a": Span(1.0, 2.5)}
    path.write_text("a {}\n")
    with pytest.raises(ValueError, match="a: no times of a key sentence"):
        read_evidence(path)


def test_unpruned_condition_has_full_recall():
    rows = [answer("a", WHOLE, kept=range(100))]
    assert recalls(rows, {"a": Span(3.5, 4.0)}, 25) == [1.0]


def test_evidence_by_hand():
    # 2.0 to 3.0 s at 25 tokens a second are tokens 50 to 74
    assert token_span(Span(2.0, 3.0), 25, 1000) == (50, 75)
    assert token_span(Span(2.01, 2.99), 25, 1000) == (50, 75)
    assert token_span(Span(2.0, 9.0), 25, 100) == (50, 100)
    assert evidence_recall(torch.arange(60, 80), Span(2.0, 3.0), 25, 1000) == 15 / 25
    assert evidence_recall([0, 1], Span(2.0, 3.0), 25, 1000) == 0.0


@given(st.sets(st.integers(0, 99)), st.floats(0, 3.9), st.floats(0.01, 3))
def test_evidence_recall_is_between_none_and_all(kept, start, length):
    recall = evidence_recall(sorted(kept), Span(start, start + length), 25, 100)
    assert 0 <= recall <= 1
    assert evidence_recall(range(100), Span(start, start + length), 25, 100) == 1


def test_spans_that_are_none():
    with pytest.raises(ValueError, match="has to begin at 0 or later"):
        Span(3.0, 3.0)
    with pytest.raises(ValueError, match="begins at 9 s, but the recording ends at 4 s"):
        token_span(Span(9.0, 10.0), 25, 100)
