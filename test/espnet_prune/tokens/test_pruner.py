import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.tokens import STRATEGIES, FirstLayer, TokenPruner

WIDTH = 8


def inputs(*lengths, seed=0):
    torch.manual_seed(seed)
    return {
        "audio": torch.randn(len(lengths), max(lengths), WIDTH),
        "lengths": list(lengths),
        "query": torch.randn(len(lengths), 5, WIDTH),
        "query_lengths": [5] * len(lengths),
        "first_layer": FirstLayer(torch.randn(8, WIDTH), torch.randn(4, WIDTH), 4),
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(
    lengths=st.lists(st.integers(1, 120), min_size=1, max_size=3),
    rate=st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=25, deadline=None)
def test_every_strategy_keeps_the_right_number_in_time_order(strategy, lengths, rate):
    prune = TokenPruner(strategy, rate=rate, window=40, frame_tokens=7)
    for n, kept in zip(lengths, prune(**inputs(*lengths)), strict=True):
        assert len(kept) == prune.kept_tokens(n) >= 1
        assert (kept.diff() > 0).all() and 0 <= kept.min() and kept.max() < n


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_recording_keeps_its_tokens_in_any_batch(strategy):
    prune = TokenPruner(strategy, rate=0.3, window=40, frame_tokens=7)
    both = inputs(90, 50)
    alone = {k: v[1:, :50] if k == "audio" else v[1:] for k, v in both.items() if k[:5] != "first"}
    first = prune(**both, keys=["a", "b"])[1]
    second = prune(**alone, first_layer=both["first_layer"], keys=["b"])[0]
    assert torch.equal(first, second)


def test_rates_are_of_the_window_as_in_the_paper():
    kept = [TokenPruner(rate=r).kept_tokens(2250) for r in (0.0, 0.2, 0.4, 0.6, 0.8)]
    assert kept == [750, 600, 450, 300, 150]
    assert TokenPruner("none", rate=0.8).kept_tokens(2250) == 2250
    assert TokenPruner(rate=0.5).kept_tokens(100) == 50
    assert [TokenPruner(keep=600).kept_tokens(n) for n in (2250, 80)] == [600, 80]
    assert TokenPruner(rate=0.99).kept_tokens(10) == 1


def test_rate_zero_of_speechprune_is_its_first_phase():
    given_ = inputs(100)
    a = TokenPruner("speechprune", rate=0.0, window=40, frame_tokens=7)(**given_)[0]
    b = TokenPruner("first_phase", keep=40, frame_tokens=7)(**given_)[0]
    assert torch.equal(a, b)
    few = TokenPruner("speechprune", rate=0.5, window=40, frame_tokens=7)(**given_)[0]
    assert set(few.tolist()) < set(b.tolist())


def test_a_token_like_the_query_survives():
    given_ = inputs(100)
    where = torch.arange(60, 67)
    given_["audio"][0, where] = given_["query"][0].mean(0) * 3 + torch.randn(7, WIDTH) * 0.01
    kept = TokenPruner("first_phase", keep=20, frame_tokens=7)(**given_)[0]
    assert set(where.tolist()) <= set(kept.tolist())


def test_baselines_are_what_they_say():
    given_ = inputs(100)
    crop = TokenPruner("crop", rate=0.5, window=40)(**given_)[0]
    assert crop.tolist() == list(range(20))
    rac = TokenPruner("rac", rate=0.5, window=40)(**given_)[0]
    assert rac.tolist() == list(range(int(rac[0]), int(rac[0]) + 20))
    uniform = TokenPruner("uniform", keep=20)(**given_)[0]
    assert uniform.diff().tolist() == [5] * 19
    rap = TokenPruner("rap", keep=20)(**given_)[0]
    assert rap.diff().max() > 1
    assert not torch.equal(rap, TokenPruner("rap", keep=20, seed=1)(**given_)[0])
    assert not torch.equal(rac, TokenPruner("rac", keep=20, seed=1)(**given_)[0])


def test_random_crops_start_anywhere():
    starts = {
        int(TokenPruner("rac", keep=3, seed=s)(torch.zeros(1, 6, WIDTH))[0][0]) for s in range(60)
    }
    assert starts == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "prune"}, "unknown strategy 'prune', choose from none, speechprune"),
        ({"rate": 1.0}, r"rate is 1.0, but has to be in \[0, 1\)"),
        ({"rate": -0.1}, r"\[0, 1\)"),
        ({"rate": "much"}, "rate is 'much'"),
        ({"rate": float("nan")}, "nan"),
        ({"rate": 0.2, "keep": 3}, "not both"),
        ({"keep": 0}, "keep is 0"),
        ({"window": 2.5}, "window is 2.5"),
        ({"frame_tokens": True}, "frame_tokens is True"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TokenPruner(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": None}, "needs the query"),
        ({"first_layer": None}, "needs the model's first layer"),
        ({"query": torch.zeros(1, 5, 3)}, "8 dimensions, the query's 3"),
        ({"lengths": [0]}, "recording has 0 to 0 tokens"),
        ({"lengths": [31]}, "31 tokens"),
        ({"query_lengths": [0]}, "query has 0 to 0 tokens"),
        ({"lengths": [3, 4]}, "1 rows, but lengths"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TokenPruner("speechprune", rate=0.5)(**{**inputs(30), **change})
