import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.tokens import QUERY_FREE_SCORES, staying_frames, take_frames
from espnet_prune.tokens.query_free import novelty, typicality

SCORES = tuple(QUERY_FREE_SCORES)


@st.composite
def utterances(draw):
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    torch.manual_seed(draw(st.integers(0, 1000)))
    return torch.randn(len(lengths), max(lengths), 6), torch.tensor(lengths)


def test_novelty_by_hand():
    # right angle, the same direction, the opposite one, 60 degrees
    frames = torch.tensor([[[2.0, 0], [0, 1], [0, 5], [0, -1], [3**0.5, -1], [9, 9]]])
    got = novelty(frames, torch.tensor([5]))
    assert got[0, :5].tolist() == pytest.approx([2.0, 1.0, 0.0, 2.0, 0.5], abs=1e-6)
    assert got[0, 5] == -torch.inf


def test_typicality_by_hand():
    frames = torch.tensor([[[1.0, 0], [0, 1], [-9, -9]], [[3.0, 0], [0, 4], [6, 2]]])
    got = typicality(frames, torch.tensor([2, 3]))
    assert got[0, :2].tolist() == pytest.approx([0.5**0.5] * 2) and got[0, 2] == -torch.inf
    # the mean is (3, 2): 9 / (3 sqrt 13), 8 / (4 sqrt 13), 22 / sqrt(40 13)
    assert got[1].tolist() == pytest.approx([3 / 13**0.5, 2 / 13**0.5, 22 / 520**0.5])


def test_what_goes_on_is_dropped_and_what_begins_stays():
    sound = torch.eye(4)[[0, 0, 0, 1, 1, 2, 2, 2]][None]
    indices, lengths = staying_frames(sound, torch.tensor([8]), 0.6)
    assert indices.tolist() == [[0, 3, 5]] and lengths.tolist() == [3]


@pytest.mark.parametrize("score", SCORES)
@given(batch=utterances(), rate=st.floats(0, 1, exclude_max=True))
@settings(max_examples=50, deadline=None)
def test_exact_counts_in_time_order_and_a_batch_is_its_singles(score, batch, rate):
    frames, lengths = batch
    indices, kept = staying_frames(frames, lengths, rate, score)
    taken = take_frames(frames, indices, kept)
    assert taken.shape[1] == indices.shape[1] == kept.max()
    for b, n in enumerate(lengths.tolist()):
        k = max(1, round((1 - rate) * n))
        assert kept[b] == k
        row = indices[b, :k]
        assert (row.diff() > 0).all() and 0 <= row.min() and row.max() < n
        assert torch.equal(taken[b, :k], frames[b, row]) and not taken[b, k:].any()
        alone, _ = staying_frames(frames[b : b + 1, :n], lengths[b : b + 1], rate, score)
        assert torch.equal(alone[0], row)


@pytest.mark.parametrize("score", SCORES)
def test_equal_frames_leave_the_earlier_ones(score):
    indices, _ = staying_frames(torch.ones(2, 6, 3), torch.tensor([6, 4]), 0.5, score)
    assert indices.tolist() == [[0, 1, 2], [0, 1, 2]]  # of the second, two are real


def test_nothing_is_dropped_at_rate_zero():
    frames, lengths = torch.randn(2, 7, 3), torch.tensor([7, 4])
    indices, kept = staying_frames(frames, lengths, 0.0, "mean")
    assert torch.equal(kept, lengths)
    assert torch.equal(take_frames(frames, indices, kept)[1, :4], frames[1, :4])


@pytest.mark.parametrize(
    ("rate", "score", "lengths", "message"),
    [
        (1.0, "mean", [3], r"rate is 1.0, but has to be in \[0, 1\)"),
        ("half", "mean", [3], "rate is 'half'"),
        (0.5, "norm", [3], "unknown score 'norm', choose from neighbours, mean"),
        (0.5, "mean", [0], r"utterances of \[0\] frames in a batch of 3"),
        (0.5, "mean", [4], r"utterances of \[4\] frames in a batch of 3"),
    ],
)
def test_what_is_refused(rate, score, lengths, message):
    with pytest.raises(ValueError, match=message):
        staying_frames(torch.ones(1, 3, 2), torch.tensor(lengths), rate, score)
