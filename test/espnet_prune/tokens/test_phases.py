import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.tokens import FirstLayer, attention_received, first_phase, frame_budgets
from espnet_prune.tokens.phases import second_phase


@st.composite
def frames(draw):
    m = draw(st.integers(1, 12))
    capacity = draw(st.lists(st.integers(0, 25), min_size=m, max_size=m).filter(any))
    scores = draw(st.lists(st.floats(-25, 25, width=32), min_size=m, max_size=m))
    return scores, capacity, draw(st.integers(0, sum(capacity)))


@given(frames())
@settings(max_examples=300, deadline=None)
def test_budgets_sum_exactly_and_fit(case):
    scores, capacity, total = (torch.tensor([x]) for x in case)
    n = frame_budgets(scores, capacity, total)
    assert n.sum() == total and (n >= 0).all() and (n <= capacity).all()


@given(frames())
@settings(max_examples=300, deadline=None)
def test_budgets_are_the_softmax_where_there_is_room(case):
    """Frames that are not full are within one token of lambda p, with one lambda for all."""
    scores, capacity, total = (torch.tensor([x]) for x in case)
    n = frame_budgets(scores, capacity, total)[0].double()
    p = scores.double().masked_fill(capacity == 0, -torch.inf).softmax(1)[0]
    some = (capacity[0] > 0) & (p > 1e-12)
    low = ((n - 1) / p)[some & (n > 0)]  # lambda is above these
    high = ((n + 1) / p)[some & (n < capacity[0])]  # and below these
    if len(low) and len(high):
        assert low.max() <= high.min() * (1 + 1e-6) + 1e-6


def test_without_a_full_frame_it_is_the_papers_floor_and_remainder():
    p = torch.tensor([[0.5, 0.3, 0.2]])
    n = frame_budgets(p.log(), torch.full((1, 3), 25), torch.tensor([11]))
    assert n.tolist() == [[6, 3, 2]]  # 5.5, 3.3, 2.2: the floors are 5, 3, 2


def test_what_a_full_frame_cannot_use_goes_to_the_others_in_proportion():
    p = torch.tensor([[0.8, 0.15, 0.05]])
    n = frame_budgets(p.log(), torch.tensor([[4, 25, 25]]), torch.tensor([12]))
    assert n.tolist() == [[4, 6, 2]]


def test_budgets_beyond_the_capacity_are_refused():
    with pytest.raises(ValueError, match="to be kept"):
        frame_budgets(torch.zeros(1, 2), torch.tensor([[3, 3]]), torch.tensor([7]))


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_first_phase_keeps_the_most_similar_of_each_frame(seed, n1, n2, data):
    torch.manual_seed(seed)
    lengths = torch.tensor([n1, n2])
    keep = torch.tensor([data.draw(st.integers(0, n)) for n in (n1, n2)])
    similarity = torch.rand(2, max(n1, n2))
    kept = first_phase(similarity, lengths, keep, frame_tokens=8)
    assert torch.equal(kept.sum(1), keep)
    for b, n in enumerate(lengths.tolist()):
        assert not kept[b, n:].any()
        for start in range(0, n, 8):
            frame, stays = (
                similarity[b, start : min(n, start + 8)],
                kept[b, start : min(n, start + 8)],
            )
            if stays.any() and not stays.all():
                assert frame[stays].min() >= frame[~stays].max()


@given(st.lists(st.sampled_from([-1.5, 0.1, 0.1000001, 7.0]), min_size=1, max_size=12), st.data())
@settings(max_examples=100, deadline=None)
def test_of_equal_frames_the_earlier_gets_the_remainder(scores, data):
    total = data.draw(st.integers(0, 9 * len(scores)))
    case = torch.tensor([scores]), torch.full((1, len(scores)), 9), torch.tensor([total])
    n = frame_budgets(*case)
    assert torch.equal(n, frame_budgets(*case))
    for score in set(scores):
        same = [k for s, k in zip(scores, n[0].tolist(), strict=True) if s == score]
        assert same == sorted(same, reverse=True) and same[0] - same[-1] <= 1


@given(st.lists(st.sampled_from([0.0, 0.1, 0.3]), min_size=1, max_size=40), st.data())
@settings(max_examples=100, deadline=None)
def test_of_equal_tokens_of_a_frame_the_earlier_stay(similarity, data):
    keep = data.draw(st.integers(0, len(similarity)))
    length = torch.tensor([len(similarity)])
    kept = first_phase(torch.tensor([similarity]), length, torch.tensor([keep]), 8)[0].tolist()
    for start in range(0, len(kept), 8):
        frame = range(start, min(len(kept), start + 8))
        best = sorted(frame, key=lambda i: (-similarity[i], i))[: sum(kept[i] for i in frame)]
        assert [i for i in frame if kept[i]] == sorted(best)


@given(st.integers(0, 10_000), st.integers(1, 70))
@settings(max_examples=40, deadline=None)
def test_the_order_of_a_frame_s_tokens_does_not_change_its_budget(seed, keep):
    torch.manual_seed(seed)
    similarity, length = torch.rand(1, 70), torch.tensor([70])
    order = torch.cat([start + torch.randperm(7) for start in range(0, 70, 7)])
    kept, other = (
        first_phase(s, length, torch.tensor([keep]), 7) for s in (similarity, similarity[:, order])
    )
    assert torch.equal(kept[:, order], other)


@given(st.integers(0, 10_000), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_of_tokens_with_equal_signs_the_earlier_stay(seed, keep):
    torch.manual_seed(seed)
    kinds = torch.randn(4, 10)
    which = torch.randint(4, (60,))
    audio = kinds[which] * torch.rand(60, 1).add(0.1)  # the binarised layer sees no loudness
    first = FirstLayer(torch.randn(12, 10), torch.randn(6, 10), 4)
    kept = second_phase(audio[None], torch.tensor([60]), torch.tensor([keep]), first)[0]
    for kind in range(4):
        row = kept[which == kind].tolist()
        assert row == sorted(row, reverse=True)


def test_a_row_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    similarity = torch.rand(2, 50)
    both = first_phase(similarity, torch.tensor([50, 23]), torch.tensor([20, 9]))
    alone = first_phase(similarity[1:, :23], torch.tensor([23]), torch.tensor([9]))
    assert torch.equal(both[1:, :23], alone)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_second_phase_is_topk_of_attention_among_what_is_left(seed):
    torch.manual_seed(seed)
    first = FirstLayer(torch.randn(12, 10), torch.randn(6, 10), 4)
    audio = torch.randn(2, 20, 10)
    lengths, keep = torch.tensor([20, 11]), torch.tensor([5, 3])
    among = (torch.rand(2, 20) < 0.6) & (torch.arange(20) < lengths[:, None])
    among[:, :6] = True
    kept = second_phase(audio, lengths, keep, first, among)
    for b in range(2):
        left = among[b].nonzero().squeeze(1)
        scores = attention_received(audio[b : b + 1, left], torch.tensor([len(left)]), first)[0]
        want = left[scores.argsort(descending=True, stable=True)[: int(keep[b])]].sort().values
        assert kept[b].nonzero().squeeze(1).tolist() == want.tolist()
