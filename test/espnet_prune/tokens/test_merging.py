"""Merging against the equations, and what holds of all merging strategies."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.structured.cost.measure import peak_memory_of
from espnet_prune.tokens import STRATEGIES, FirstLayer, Outcome, TokenPruner
from espnet_prune.tokens.greedy import most_diverse
from espnet_prune.tokens.merging import (
    like_in_windows,
    like_neighbours,
    like_runs,
    means,
    neighbour_cosines,
    numbered,
)
from espnet_prune.tokens.scores import attention_received

MERGING = [name for name, strategy in STRATEGIES.items() if strategy.merges]
SEEDS = st.integers(0, 10_000)
cosine = torch.nn.functional.cosine_similarity


@pytest.mark.parametrize("strategy", MERGING)
@given(SEEDS, st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_weights_are_conserved(strategy, seed, n, keep):
    """Each new token is a mean, no token is in two, and none is lost but for those dropped."""
    torch.manual_seed(seed)
    audio = torch.randn(5, 8)[torch.randint(5, (1, n))] + 0.1 * torch.randn(1, n, 8)
    first = FirstLayer(torch.randn(8, 8), torch.randn(4, 8), 4)
    (outcome,) = TokenPruner(strategy, keep=keep, frame_tokens=7).outcomes(audio, first_layer=first)
    weights = outcome.weights(n)
    assert weights.shape == (min(n, keep), n)
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
    sizes = (weights > 0).sum(1)
    assert ((weights > 0).sum(0) <= 1).all() and (sizes > 0).all()
    assert strategy == "merge_runs" or int(sizes.sum()) == n
    torch.testing.assert_close(outcome.apply(audio[0]), weights @ audio[0], atol=1e-5, rtol=1e-4)
    # in the order of their first tokens, which are those that are named
    assert (weights > 0).long().argmax(1).tolist() == outcome.kept.tolist()
    if keep >= n:
        assert torch.equal(outcome.apply(audio[0]), audio[0])


@given(SEEDS, st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_of_runs_the_most_diverse_by_the_attention_of_their_tokens_stay(seed, keep):
    """SA-MAP's second step, with the attention that the first layer gives each token."""
    torch.manual_seed(seed)
    audio = torch.randn(6, 8).repeat_interleave(torch.tensor([3, 1, 4, 2, 1, 5]), 0)
    audio = (audio + 0.01 * torch.randn(audio.shape))[None]
    first = FirstLayer(torch.randn(8, 8), torch.randn(4, 8), 4)
    groups = like_runs(audio[0], keep)
    number = int(groups.max()) + 1
    (outcome,) = TokenPruner("merge_runs", keep=keep).outcomes(audio, first_layer=first)
    if number <= keep:
        assert torch.equal(outcome.groups, groups)
        return
    attention = attention_received(audio, torch.tensor([16]), first)[0].double()
    received = torch.stack([attention[groups == run].logsumexp(0) for run in range(number)])
    runs = torch.stack([audio[0, groups == run].mean(0) for run in range(number)])
    relevance = (received - received.min()) / (received.max() - received.min())
    stays = set(most_diverse(runs, relevance.float(), keep).tolist())
    wanted = [run if run in stays else -1 for run in groups.tolist()]
    assert torch.equal(outcome.groups, numbered(torch.tensor(wanted)))


def test_what_does_not_merge_has_weights_too():
    outcome = Outcome(torch.tensor([1, 3]))
    assert outcome.weights(4).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]


def test_merged_tokens_keep_their_dtype():
    audio = torch.randn(1, 20, 8, dtype=torch.bfloat16)
    (outcome,) = TokenPruner("merge_neighbours", keep=4).outcomes(audio)
    assert outcome.apply(audio[0]).dtype == torch.bfloat16


@given(SEEDS, st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_the_most_similar_neighbours_are_merged(seed, keep):
    torch.manual_seed(seed)
    tokens = torch.randn(30, 6)
    groups = like_neighbours(tokens, keep)
    assert int(groups.max()) + 1 == keep and (groups.diff() >= 0).all()
    likeness = cosine(tokens[1:], tokens[:-1], dim=-1)
    torch.testing.assert_close(neighbour_cosines(tokens), likeness, atol=1e-5, rtol=1e-5)
    joined = groups.diff() == 0
    if joined.any() and not joined.all():
        assert likeness[joined].min() >= likeness[~joined].max() - 1e-6


def test_cosines_of_neighbours_need_no_second_copy_of_the_tokens():
    """An hour in bfloat16 is 46 MB here; in float32 it would be 92 MB more."""
    tokens = torch.randn(90_000, 256).bfloat16()
    neighbour_cosines(tokens[:9000])  # what loads with a first call
    peak = peak_memory_of(lambda: neighbour_cosines(tokens), "cpu")
    assert peak is None or peak < 20e6


@given(SEEDS, st.floats(-0.5, 0.9))
@settings(max_examples=30, deadline=None)
def test_runs_have_a_mean_cosine_of_the_threshold(seed, threshold):
    torch.manual_seed(seed)
    tokens = torch.randn(25, 3)
    groups = like_runs(tokens, 1, threshold)
    likeness = cosine(tokens[1:], tokens[:-1], dim=-1).tolist()
    for run in range(int(groups.max()) + 1):
        places = (groups == run).nonzero()[:, 0].tolist()
        inside = likeness[places[0] : places[-1]]
        assert all(sum(inside[: k + 1]) / (k + 1) >= threshold - 1e-5 for k in range(len(inside)))
        if places[-1] < 24:  # the next one would be too much
            longer = [*inside, likeness[places[-1]]]
            assert sum(longer) / len(longer) < threshold + 1e-5


def test_too_few_runs_are_merged_neighbours_instead():
    tokens = torch.ones(12, 4)
    tokens[5:] *= -1
    assert int(like_runs(tokens, 2).max()) == 1
    assert int(like_runs(tokens, 6).max()) == 5


@given(SEEDS, st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_a_round_of_bipartite_merging_by_hand(seed, links):
    """16 tokens in windows of 4, so that a round can merge 8 pairs."""
    torch.manual_seed(seed)
    tokens = torch.randn(16, 5)
    best = {}
    for start in range(0, 16, 4):
        for a in (start, start + 2):
            scores = {b: cosine(tokens[a], tokens[b], dim=0).item() for b in (start + 1, start + 3)}
            best[a] = max((score, b) for b, score in scores.items())
    merged = sorted(best, key=lambda a: -best[a][0])[:links]
    expected = torch.arange(16)
    for a in merged:
        expected[a] = best[a][1]
    assert torch.equal(like_in_windows(tokens, 16 - links, 4), numbered(expected))


@given(SEEDS, st.integers(2, 9), st.integers(1, 70))
@settings(max_examples=40, deadline=None)
def test_rounds_end_at_the_number_that_is_asked_for(seed, window, keep):
    torch.manual_seed(seed)
    groups = like_in_windows(torch.randn(70, 4), keep, window)
    assert sorted(set(groups.tolist())) == list(range(keep))


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_groups_are_numbered_by_their_first_tokens_and_meant(groups):
    given_ = torch.tensor(groups)
    found = numbered(given_)
    order = list(dict.fromkeys(g for g in groups if g >= 0))
    assert found.tolist() == [order.index(g) if g >= 0 else -1 for g in groups]
    tokens = torch.randn(len(groups), 3)
    if order:
        got = torch.cat(list(means(tokens, found)))
        want = torch.stack([tokens[found == g].mean(0) for g in range(len(order))])
        torch.testing.assert_close(got, want)


def test_means_of_many_tokens_come_in_blocks():
    tokens = torch.randn(5000, 2)
    groups = torch.cat([torch.zeros(2500, dtype=torch.long), 1 + torch.arange(2500)])
    parts = list(means(tokens, groups))
    assert len(parts) > 2
    torch.testing.assert_close(torch.cat(parts)[0], tokens[:2500].mean(0), atol=1e-5, rtol=1e-4)
    assert torch.equal(torch.cat(parts)[1:], tokens[2500:])


def test_windows_go_on_over_blocks():
    """As the same merging with the means of all tokens at once."""
    torch.manual_seed(0)
    tokens = torch.randn(2000, 3)
    tokens[:1600] = tokens[0]  # a first round makes few groups of many tokens
    groups = like_in_windows(tokens, 37, 7)
    assert sorted(set(groups.tolist())) == list(range(37))
    half = like_in_windows(tokens, 1143, 7)  # one round: three pairs in each window
    spread = like_in_windows(torch.cat([tokens[:700], torch.randn(1300, 3)]), 1143, 7)
    assert torch.equal(half[:700] == half[:700, None], spread[:700] == spread[:700, None])
