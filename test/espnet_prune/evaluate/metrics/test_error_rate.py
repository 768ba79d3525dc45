import re
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.evaluate.metrics.error_rate import (
    ErrorCounts,
    count_errors,
    error_rate,
    error_rate_difference,
)


def counts_of(rows):
    return ErrorCounts(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)


COUNTS = st.lists(st.tuples(*[st.integers(0, 5)] * 4), min_size=1, max_size=12).filter(
    lambda rows: sum(sum(row[:3]) for row in rows) > 0
)


def test_counts_by_hand():
    counts = count_errors(
        ["the cat sat", "one two", "", "gone away"], ["the bat sat down", "one two", "hm", ""]
    )
    assert counts.hits.tolist() == [2, 2, 0, 0]
    assert counts.substitutions.tolist() == [1, 0, 0, 0]
    assert counts.deletions.tolist() == [0, 0, 0, 2]
    assert counts.insertions.tolist() == [1, 0, 1, 0]
    assert counts.errors.tolist() == [2, 0, 1, 2]
    assert counts.reference_length.tolist() == [3, 2, 0, 2]


def test_characters_include_spaces():
    counts = count_errors(["a cat"], ["acat"], unit="char")
    assert (counts.hits[0], counts.deletions[0], counts.reference_length[0]) == (4, 1, 5)


def test_rate_by_hand():
    counts = count_errors(["a b c d", "e f g h"], ["a b c d", "e f x y"])
    result = error_rate(counts)
    assert (result.errors, result.reference_length, result.rate) == (2, 8, 0.25)
    # Both, one or none of the two draws is the bad utterance: 0, 1/4 or 1/2.
    assert (result.low, result.high) == (0.0, 0.5)


def test_counts_agree_with_sclite(tmp_path, sctk):
    references = ["the cat sat on the mat", "one two three", "stay here", "go on", "so it is"]
    hypotheses = ["the cat on a mat", "one too three four", "", "go on", "so is it then"]
    for name, texts in (("ref", references), ("hyp", hypotheses)):
        lines = [f"{text} (spk-{number})\n" for number, text in enumerate(texts)]
        (tmp_path / f"{name}.trn").write_text("".join(lines))
    files = ["-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "rm", "-o", "pra", "stdout"]
    run = subprocess.run([*sctk("sclite"), *files], cwd=tmp_path, capture_output=True, text=True)
    pattern = r"id: \(spk-(\d)\)\nScores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)"
    found = {int(row[0]): row[1:] for row in re.findall(pattern, run.stdout)}
    counts = count_errors(references, hypotheses)
    parts = [counts.hits, counts.substitutions, counts.deletions, counts.insertions]
    assert {number: tuple(str(part[number]) for part in parts) for number in range(5)} == found


def test_interval_agrees_with_the_binomial_one():
    generator = np.random.default_rng(1)
    wrong = generator.random(400) < 0.2
    zero = np.zeros(400, dtype=np.int64)
    result = error_rate(ErrorCounts(zero + ~wrong, zero + wrong, zero, zero))
    half_width = 1.96 * np.sqrt(result.rate * (1 - result.rate) / 400)
    assert result.high - result.rate == pytest.approx(half_width, rel=0.1)
    assert result.rate - result.low == pytest.approx(half_width, rel=0.1)


@settings(max_examples=30, deadline=None)
@given(COUNTS, st.integers(0, 3))
def test_interval_properties(rows, seed):
    counts = counts_of(rows)
    result = error_rate(counts, resamples=400, seed=seed)
    assert result == error_rate(counts, resamples=400, seed=seed)
    assert 0 <= result.low <= result.high
    if len(rows) == 1:
        assert result.low == result.high == result.rate
    lengths = counts.reference_length
    if (lengths > 0).all():
        each = counts.errors / lengths
        assert each.min() - 1e-9 <= result.low and result.high <= each.max() + 1e-9


@settings(max_examples=30, deadline=None)
@given(COUNTS, st.integers(1, 4))
def test_paired_difference_of_more_errors_everywhere(rows, more):
    worse = counts_of(rows)
    better = ErrorCounts(worse.hits, worse.substitutions, worse.deletions, worse.insertions)
    worse = ErrorCounts(worse.hits, worse.substitutions, worse.deletions, worse.insertions + more)
    same = error_rate_difference(better, better, resamples=200)
    assert (same.difference, same.low, same.high, same.improvement) == (0, 0, 0, 0)
    up = error_rate_difference(better, worse, resamples=200)
    down = error_rate_difference(worse, better, resamples=200)
    assert up.low > 0 and up.improvement == 0
    assert down.high < 0 and down.improvement == 1
    assert up.difference == pytest.approx(-down.difference)
    assert up.low == pytest.approx(-down.high)


def test_pairing_narrows_the_interval():
    generator = np.random.default_rng(0)
    zero = np.zeros(100, dtype=np.int64)
    hard = generator.integers(0, 9, 100)
    first = ErrorCounts(10 - hard, hard, zero, zero)
    second = ErrorCounts(10 - hard, hard, zero, zero + (np.arange(100) % 4 == 0))
    alone = error_rate(first)
    paired = error_rate_difference(first, second)
    assert paired.low > 0
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_many_utterances_are_drawn_in_blocks():
    zero = np.zeros(5000, dtype=np.int64)
    counts = ErrorCounts(zero + 9, zero + 1, zero, zero)
    assert error_rate(counts, resamples=1000).low == pytest.approx(0.1)


def test_errors():
    with pytest.raises(ValueError, match="1 references but 2"):
        count_errors(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="'syllable'"):
        count_errors(["a"], ["a"], unit="syllable")
    with pytest.raises(ValueError, match="no words"):
        error_rate(count_errors([""], ["a"]))
    with pytest.raises(ValueError, match="no words"):
        error_rate(count_errors([], []))
    with pytest.raises(ValueError, match="same references"):
        error_rate_difference(count_errors(["a"], ["a"]), count_errors(["a b"], ["a b"]))
