"""Greedy choices against the equations, computed in full."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.tokens import TokenPruner
from espnet_prune.tokens.greedy import (
    Cosines,
    between_0_and_1,
    far_apart,
    marginally_relevant,
    most_diverse,
)

SEEDS = st.integers(0, 10_000)


def drawn(seed, n=9, width=12):
    torch.manual_seed(seed)
    return torch.randn(n, width), torch.rand(n) + 0.05


def cosines(tokens):
    unit = torch.nn.functional.normalize(tokens.double(), dim=-1)
    return unit @ unit.T


@given(SEEDS, st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_each_token_makes_the_determinant_greatest(seed, keep):
    tokens, relevance = drawn(seed)
    weight = relevance.double()
    kernel = weight[:, None] * cosines(tokens) * weight
    chosen = []
    for _ in range(keep):
        rest = [i for i in range(9) if i not in chosen]
        det = [torch.linalg.det(kernel[[*chosen, i]][:, [*chosen, i]]).item() for i in rest]
        chosen.append(rest[max(range(len(rest)), key=det.__getitem__)])
    assert most_diverse(tokens, relevance, keep).tolist() == chosen


def test_the_greedy_set_is_nearly_the_best_of_all():
    tokens, relevance = drawn(3, n=8)
    kernel = relevance[:, None] * cosines(tokens).float() * relevance
    det = lambda some: torch.linalg.det(kernel[some][:, some]).item()  # noqa: E731
    best = max(det(list(some)) for some in itertools.combinations(range(8), 3))
    assert det(most_diverse(tokens, relevance, 3).tolist()) > 0.5 * best


@given(SEEDS, st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_marginal_relevance_by_hand(seed, keep):
    tokens, importance = drawn(seed)
    alike, chosen = cosines(tokens), []
    for _ in range(keep):
        gains = {
            i: 0.5 * importance[i].item()
            - (0.5 * max(alike[i, c].item() for c in chosen) if chosen else 0.0)
            for i in range(9)
            if i not in chosen
        }
        chosen.append(max(gains, key=gains.get))
    assert marginally_relevant(tokens, importance, keep).tolist() == chosen


@pytest.mark.parametrize(
    ("strategy", "choose"), [("cdpruner", most_diverse), ("idpruner", marginally_relevant)]
)
@given(SEEDS, st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_relevance_is_the_likeness_to_the_question_from_0_to_1(strategy, choose, seed, keep):
    tokens, _ = drawn(seed)
    query = torch.randn(3, 12)
    words = torch.nn.functional.normalize(query.double(), dim=-1)
    likeness = (torch.nn.functional.normalize(tokens.double(), dim=-1) @ words.T).mean(1)
    relevance = (likeness - likeness.min()) / (likeness.max() - likeness.min())
    (kept,) = TokenPruner(strategy, keep=keep)(tokens[None], query=query[None])
    assert kept.tolist() == sorted(choose(tokens, relevance.float(), keep).tolist())


@given(SEEDS, st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_the_nearest_chosen_token_is_farthest(seed, keep):
    """Up to rounding: two tokens that are each other's nearest are equally far from it."""
    tokens, _ = drawn(seed)
    apart, chosen = 1 - cosines(tokens), []
    for best in far_apart(tokens, keep).tolist():
        rest = [i for i in range(9) if i not in chosen]
        nearest = {
            i: min(apart[i, c].item() for c in (chosen or set(range(9)) - {i})) for i in rest
        }
        assert nearest[best] == pytest.approx(max(nearest.values()), abs=1e-6)
        chosen.append(best)
    assert len(chosen) == keep


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_long_recordings_begin_far_from_evenly_spaced_tokens(seed):
    tokens, _ = drawn(seed)
    apart = 1 - cosines(tokens)
    first = max(range(9), key=lambda i: min(apart[i, j] for j in (0, 3, 6) if j != i))
    assert int(far_apart(tokens, 1, most_starts=3)) == first


@pytest.mark.parametrize("strategy", ["cdpruner", "idpruner", "divprune"])
@given(SEEDS, st.integers(1, 20))
@settings(max_examples=25, deadline=None)
def test_loudness_and_rotations_change_nothing(strategy, seed, keep):
    """Only angles count: tokens times positive numbers, and all turned alike."""
    tokens, _ = drawn(seed, n=20)
    query = torch.randn(1, 3, 12)
    turn = torch.linalg.qr(torch.randn(12, 12).double())[0]
    loud = torch.rand(20, 1) + 0.5
    prune = TokenPruner(strategy, keep=keep)
    turned = ((tokens.double() @ turn).float() * loud, (query.double() @ turn).float())
    (kept,), (same,) = prune(tokens[None], query=query), prune(turned[0][None], query=turned[1])
    assert torch.equal(kept, same)


def test_a_copy_is_chosen_last():
    tokens, relevance = drawn(0, n=8)
    tokens[5] = 3 * tokens[2]
    relevance[5] = relevance[2] = 1.0
    for chosen in (most_diverse(tokens, relevance, 8), far_apart(tokens, 8)):
        assert chosen.tolist()[-1] == 5
    assert sorted(marginally_relevant(tokens, relevance, 8).tolist()) == list(range(8))


def test_tokens_beyond_the_rank_come_by_relevance():
    tokens = torch.randn(10, 3)
    relevance = torch.linspace(1.0, 0.1, 10)
    chosen = most_diverse(tokens, relevance, 10).tolist()
    assert sorted(chosen) == list(range(10)) and chosen[3:] == sorted(chosen[3:])


def test_parts():
    tokens = torch.tensor([[3.0, 4.0], [0.0, 0.0], [4.0, -3.0]])
    found = Cosines(tokens)
    assert found(0).tolist() == pytest.approx([1.0, 0.0, 0.0])
    assert torch.allclose(found(torch.tensor([0, 2])), torch.stack([found(0), found(2)], 1))
    assert between_0_and_1(torch.tensor([2.0, 4.0, 3.0])).tolist() == [0.0, 1.0, 0.5]
    assert between_0_and_1(torch.tensor([2.0, 2.0])).tolist() == [1.0, 1.0]
