import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.tokens import STRATEGIES, FirstLayer, TokenPruner, attention_received

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


@st.composite
def recordings(draw):
    """A batch of other lengths in which the same token is there again and again, and a seed."""
    lengths = draw(st.lists(st.integers(1, 90), min_size=1, max_size=4))
    words = draw(st.lists(st.integers(1, 6), min_size=len(lengths), max_size=len(lengths)))
    seed = draw(st.integers(0, 10_000))
    torch.manual_seed(seed)
    tokens = torch.randn(draw(st.sampled_from([2, 5, 50])), WIDTH)
    given_ = {
        "audio": tokens[torch.randint(len(tokens), (len(lengths), max(lengths)))],
        "lengths": lengths,
        "query": torch.randn(len(words), max(words), WIDTH),
        "query_lengths": words,
        "first_layer": FirstLayer(torch.randn(8, WIDTH), torch.randn(4, WIDTH), 4),
        "keys": [f"recording {n}" for n in range(len(lengths))],
    }
    return given_, seed


def same(first, second):
    return [kept.tolist() for kept in first] == [kept.tolist() for kept in second]


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(case=recordings(), rate=st.floats(0, 0.95))
@settings(max_examples=40, deadline=None)
def test_a_batch_is_its_singles(strategy, case, rate):
    given_, seed = case
    prune = TokenPruner(strategy, rate=rate, window=40, frame_tokens=7, seed=seed)
    together, merged = prune(**given_), prune.outcomes(**given_)
    assert same(together, prune(**given_))
    for b, (n, words) in enumerate(zip(given_["lengths"], given_["query_lengths"], strict=True)):
        (alone,) = prune.outcomes(
            given_["audio"][b : b + 1, :n],
            query=given_["query"][b : b + 1, :words],
            first_layer=given_["first_layer"],
            keys=given_["keys"][b : b + 1],
        )
        assert same([alone.kept], together[b : b + 1])
        assert torch.equal(alone.weights(n), merged[b].weights(n))


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(case=recordings(), rate=st.floats(0, 0.95))
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_text_s_tokens_changes_nothing(strategy, case, rate):
    given_, seed = case
    prune = TokenPruner(strategy, rate=rate, window=40, frame_tokens=7)
    query = given_["query"].clone()
    for row, words in zip(query, given_["query_lengths"], strict=True):
        row[:words] = row[torch.randperm(words)]
    assert same(prune(**given_), prune(**{**given_, "query": query}))


@pytest.mark.parametrize(
    "strategy",
    ["speechprune", "speechprune_gains", "speechprune_true", "first_phase", "second_phase"],
)
@given(case=recordings(), rate=st.floats(0, 0.95))
@settings(max_examples=40, deadline=None)
def test_of_equal_tokens_the_earlier_ones_stay(strategy, case, rate):
    """Within a second where the first phase shares tokens out, else in the whole recording."""
    given_, _ = case
    kept = TokenPruner(strategy, rate=rate, window=40, frame_tokens=7)(**given_)
    for audio, n, indices in zip(given_["audio"], given_["lengths"], kept, strict=True):
        stays = set(indices.tolist())
        step = n if strategy == "second_phase" else 7
        for start in range(0, n, step):
            seen = {}
            for i in range(start, min(n, start + step)):
                seen.setdefault(tuple(audio[i].tolist()), []).append(i in stays)
            assert all(row == sorted(row, reverse=True) for row in seen.values())


@pytest.mark.parametrize("strategy", ["segments_attention", "segments_energy"])
@given(case=recordings(), rate=st.floats(0, 0.95))
@settings(max_examples=40, deadline=None)
def test_of_equal_tokens_of_a_segment_the_earlier_ones_stay(strategy, case, rate):
    given_, _ = case
    prune = TokenPruner(strategy, rate=rate, window=40, frame_tokens=7)
    for audio, n, kept in zip(given_["audio"], given_["lengths"], prune(**given_), strict=True):
        stays, number = set(kept.tolist()), min(len(kept), -(-n // 7))
        for s in range(number):
            seen = {}
            for i in range(s * n // number, (s + 1) * n // number):
                seen.setdefault(tuple(audio[i].tolist()), []).append(i in stays)
            assert all(row == sorted(row, reverse=True) for row in seen.values())


def test_rates_are_of_the_window_as_in_the_paper():
    kept = [TokenPruner(rate=r).kept_tokens(2250) for r in (0.0, 0.2, 0.4, 0.6, 0.8)]
    assert kept == [750, 600, 450, 300, 150]
    assert TokenPruner("none", rate=0.8).kept_tokens(2250) == 2250
    assert TokenPruner(rate=0.5).kept_tokens(100) == 50
    assert [TokenPruner(keep=600).kept_tokens(n) for n in (2250, 80)] == [600, 80]
    assert TokenPruner(rate=0.99).kept_tokens(10) == 1


def test_what_was_not_given_is_the_model_s():
    fitted = TokenPruner("rap", rate=0.2, seed=3).fitted(448, 15)
    assert (fitted.window, fitted.frame_tokens, fitted.rate, fitted.seed) == (448, 15, 0.2, 3)
    assert fitted.kept_tokens(1344) == 358  # 0.8 times 448
    assert TokenPruner(window=40).fitted(448, 15).window == 40
    assert TokenPruner(frame_tokens=25).fitted(448, 15).frame_tokens == 25
    original = TokenPruner()
    original.fitted(448, 15)
    assert (original.window, original.frame_tokens) == (750, 25)


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
        ({"strategy": "rap", "keep": 5.0}, "keep is 5.0, but has to be a whole number, 1 or more"),
        ({"strategy": "rac", "keep": float("inf")}, "keep is inf, but has to be a whole number"),
        ({"keep": float("nan")}, "keep is nan"),
        ({"frame_tokens": 25.0}, "frame_tokens is 25.0, but has to be a whole number"),
        ({"window": 750.0}, "window is 750.0"),
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
        ({"audio": torch.zeros(30, 8)}, r"audio has the shape \(30, 8\), but has to be"),
        ({"query": torch.zeros(2, 5, 8)}, r"query has the shape \(2, 5, 8\), but has to be \(1, L"),
        ({"query": torch.zeros(5, 8)}, r"query has the shape \(5, 8\)"),
        ({"keys": ["a", "b"]}, "1 recordings, but 2 keys"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TokenPruner("speechprune", rate=0.5)(**{**inputs(30), **change})


@pytest.mark.parametrize("strategy", ["segments_attention", "segments_energy"])
@given(n=st.integers(1, 90), keep=st.integers(1, 90), seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_segments_keep_equally_many_of_their_best(strategy, n, keep, seed):
    given_ = inputs(n, seed=seed)
    audio = given_["audio"]
    (kept,) = TokenPruner(strategy, keep=keep, frame_tokens=7)(**given_)
    keep = min(n, keep)
    if strategy == "segments_energy":
        scores = audio[0].norm(dim=-1)
    else:
        scores = attention_received(audio, torch.tensor([n]), given_["first_layer"])[0]
    number = min(keep, -(-n // 7))
    for s in range(number):
        start, end = s * n // number, (s + 1) * n // number
        share = (s + 1) * keep // number - s * keep // number
        assert share in (keep // number, -(-keep // number))
        order = sorted(range(start, end), key=lambda i: (-scores[i].item(), i))
        assert sorted(order[:share]) == [i for i in kept.tolist() if start <= i < end]
