import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from espnet_prune.speech_llm import AudioLLM
from espnet_prune.tokens import (
    QUERY_FREE_SCORES,
    STRATEGIES,
    FirstLayer,
    TokenPruner,
    attention_received,
    query_similarity,
    scores,
    staying_frames,
)
from test.espnet_prune.speech_llm.scattered import BY_NAME, PROCESSOR


def layer(heads=4, kv_heads=2, size=3, width=10, seed=0):
    torch.manual_seed(seed)
    return FirstLayer(torch.randn(heads * size, width), torch.randn(kv_heads * size, width), heads)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_similarity_is_the_mean_of_cosines(seed):
    torch.manual_seed(seed)
    audio, query = torch.randn(2, 7, 5), torch.randn(2, 4, 5)
    lengths = torch.tensor([4, 2])
    got = query_similarity(audio, query, lengths)
    for b in range(2):
        for n in range(7):
            cosines = [
                torch.nn.functional.cosine_similarity(audio[b, n], query[b, i], dim=0).item()
                for i in range(int(lengths[b]))
            ]
            assert got[b, n].item() == pytest.approx(sum(cosines) / len(cosines), abs=1e-5)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_equal_tokens_score_the_same_wherever_they_stand(seed):
    """To the last bit, so that ties are resolved by time and not by rounding."""
    torch.manual_seed(seed)
    kinds, which = torch.randn(3, 33), torch.randint(3, (2, 77))
    audio, lengths = kinds[which], torch.tensor([77, 51])
    first = layer(width=33, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "BLOCK", 20)
        similarity = query_similarity(audio, torch.randn(2, 6, 33), torch.tensor([6, 4]))
    for values in (similarity, attention_received(audio, lengths, first)):
        for b, n in enumerate(lengths.tolist()):
            for kind in range(3):
                assert len(values[b, :n][which[b, :n] == kind].unique()) <= 1


@given(st.integers(0, 10_000), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_the_order_of_the_query_s_tokens_changes_no_bit(seed, words):
    torch.manual_seed(seed)
    audio, query = torch.randn(1, 30, 33), torch.randn(1, words, 33)
    lengths = torch.tensor([words])
    got = query_similarity(audio, query, lengths)
    assert torch.equal(got, query_similarity(audio, query[:, torch.randperm(words)], lengths))
    padded = torch.cat([query, torch.randn(1, 5, 33)], 1)
    assert torch.equal(got, query_similarity(audio, padded, lengths))


def attention_by_hand(tokens, first, asking=slice(None)):
    """mean over heads and queries of softmax(sign(S) sign(Wq) (sign(S) sign(Wk))^T / sqrt(d))."""
    sign = lambda x: torch.where(x >= 0, 1.0, -1.0).double()  # noqa: E731
    q = sign(tokens[asking]) @ sign(first.query_weight).T
    k = sign(tokens) @ sign(first.key_weight).T
    size, group = first.head_size, first.heads // first.kv_heads
    total = torch.zeros(len(tokens), dtype=torch.double)
    for head in range(first.heads):
        qh = q[:, head * size : (head + 1) * size]
        kv = head // group
        kh = k[:, kv * size : (kv + 1) * size]
        total += (qh @ kh.T / math.sqrt(size)).softmax(1).mean(0)
    return total / first.heads


def full_layer(seed=0):
    """One with all that a first layer may have."""
    first = layer(seed=seed)
    parts = {"norm_gain": 10, "query_bias": 12, "key_bias": 6, "query_gain": 3, "key_gain": 3}
    return replace(first, scale=0.7, **{name: torch.randn(n) for name, n in parts.items()})


@given(st.integers(0, 10_000), st.integers(1, 400))
@settings(max_examples=20, deadline=None)
def test_gains_are_those_of_weights_that_have_them_inside(seed, block):
    first = full_layer(seed)
    inside = replace(
        first,
        query_weight=first.query_weight * first.norm_gain,
        key_weight=first.key_weight * first.norm_gain,
    )
    tokens, lengths = torch.randn(2, 9, 10), torch.tensor([9, 5])
    got = attention_received(tokens, lengths, first, "gains", block=block)
    torch.testing.assert_close(got, attention_received(tokens, lengths, inside))
    positive = replace(first, norm_gain=first.norm_gain.abs() + 0.1)
    same = attention_received(tokens, lengths, positive, "gains")
    torch.testing.assert_close(same, attention_received(tokens, lengths, first))


@torch.no_grad()
@pytest.mark.parametrize(
    "name",
    [
        "Qwen2AudioForConditionalGeneration",
        "Gemma4ForConditionalGeneration",
        "Qwen3ASRForConditionalGeneration",
    ],
)
def test_true_attention_is_that_of_the_model_s_own_modules(name):
    """Without rotary positions (the identity) and without a mask."""
    model = BY_NAME[name].model()
    first = AudioLLM(model, PROCESSOR).first_layer()
    decoder = model.get_decoder()
    block, tokens = decoder.layers[0], torch.randn(7, 24)
    attention, hidden = block.self_attn, block.input_layernorm(tokens)
    q = attention.q_proj(hidden).unflatten(-1, (4, -1))
    k = attention.k_proj(hidden).unflatten(-1, (2, -1))
    if hasattr(attention, "q_norm"):
        q, k = attention.q_norm(q), attention.k_norm(k)
    logits = torch.einsum("qhd,khd->hqk", q, k.repeat_interleave(2, 1)) * attention.scaling
    want = logits.softmax(-1).mean((0, 1)).log()
    got = attention_received(tokens[None], torch.tensor([7]), first, "true", block=30)[0]
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_unknown_kinds_of_attention_are_refused():
    with pytest.raises(ValueError, match="attention 'false' is unknown, choose from binarised"):
        attention_received(torch.randn(1, 3, 10), torch.tensor([3]), layer(), "false")


@given(st.integers(0, 10_000), st.sampled_from([(4, 4), (4, 2), (4, 1)]), st.integers(1, 400))
@settings(max_examples=20, deadline=None)
def test_attention_is_the_equation_in_any_blocks(seed, heads, block):
    first = layer(*heads, seed=seed)
    tokens = torch.randn(2, 9, 10)
    lengths = torch.tensor([9, 5])
    got = attention_received(tokens, lengths, first, block=block)
    for b, n in enumerate(lengths.tolist()):
        want = attention_by_hand(tokens[b, :n], first)
        assert torch.allclose(got[b, :n].double().exp(), want, atol=1e-5)
        assert torch.isinf(got[b, n:]).all()
        assert got[b, :n].exp().sum().item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(("most", "asking"), [(4, [0, 2, 4, 6]), (2, [0, 4]), (9, range(9))])
def test_long_recordings_ask_with_evenly_spaced_tokens(most, asking):
    first = layer()
    torch.manual_seed(1)
    tokens = torch.randn(2, 12, 10)
    got = attention_received(tokens, torch.tensor([9, 12]), first, most_queries=most, block=30)
    want = attention_by_hand(tokens[0, :9], first, list(asking))
    assert torch.allclose(got[0, :9].double().exp(), want, atol=1e-5)
    alone = attention_received(tokens[:1, :9], torch.tensor([9]), first, most_queries=most)
    torch.testing.assert_close(got[:1, :9], alone)


def test_memory_of_attention_grows_with_length_not_its_square():
    first, largest = layer(), []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest[-1] = max(largest[-1], out.numel())
            return out

    for n in (100, 200, 400):
        largest.append(0)
        with Watch():
            attention_received(torch.randn(1, n, 10), torch.tensor([n]), first, block=300)
    assert largest == [largest[0], 2 * largest[0], 4 * largest[0]]


def test_attention_that_underflows_is_still_ranked():
    torch.manual_seed(0)
    first = layer(1, 1, size=128, width=1024)
    tokens = torch.randn(1, 300, 1024)
    got = attention_received(tokens, torch.tensor([300]), first)
    assert torch.isfinite(got).all()
    lost = got[got.exp() == 0]  # the plain number could not tell these apart
    assert len(lost) > 10 and len(lost.unique()) == len(lost)


def test_the_sign_of_zero_is_one():
    first = FirstLayer(torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, -1.0]]), 1)
    tokens = torch.tensor([[[0.0, -2.0], [-0.0, 3.0], [-1.0, 0.0]]])
    # signs of the tokens: (1, -1), (1, 1), (-1, 1); Q' = 0, 2, 0; K' = 2, 0, -2
    row = torch.tensor([4.0, 0.0, -4.0]).softmax(0)
    want = (2 * torch.full((3,), 1 / 3) + row) / 3
    got = attention_received(tokens, torch.tensor([3]), first)[0].exp()
    torch.testing.assert_close(got, want)


def test_gains_of_a_norm_do_not_matter():
    first, tokens = layer(), torch.randn(1, 8, 10)
    scaled = tokens * tokens.norm(dim=-1, keepdim=True) * torch.rand(10)
    lengths = torch.tensor([8])
    assert torch.equal(
        attention_received(tokens, lengths, first), attention_received(scaled, lengths, first)
    )


@pytest.mark.parametrize("shapes", [((7, 5), (4, 5)), ((8, 5), (3, 5)), ((8, 5), (6, 5))])
def test_projections_that_are_no_heads_are_refused(shapes):
    with pytest.raises(ValueError, match="rows"):
        FirstLayer(torch.randn(*shapes[0]), torch.randn(*shapes[1]), 4)


HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)


@HALF
def test_no_score_and_no_choice_depends_on_autocast(dtype):
    """Sums of more signs than bfloat16 counts exactly, and equal tokens among others."""
    torch.manual_seed(0)
    audio, query = torch.randn(1, 300, 1040), torch.randn(1, 9, 1040)
    audio[0, 200:] = audio[0, :100]
    first = layer(heads=4, kv_heads=2, size=16, width=1040)
    lengths, words = torch.tensor([300]), torch.tensor([9])

    def found():
        found = {
            "query_similarity": query_similarity(audio, query, words),
            "attention_received": attention_received(audio, lengths, first),
        }
        found |= {name: f(audio, lengths) for name, f in QUERY_FREE_SCORES.items()}
        for name in STRATEGIES:
            (found[name],) = TokenPruner(name, rate=0.5, window=250)(
                audio, query=query, first_layer=first
            )
        for name in QUERY_FREE_SCORES:
            found[f"{name} frames"] = staying_frames(audio, lengths, 0.5, name)[0]
        return found

    expected = found()
    with torch.autocast("cpu", dtype):
        under = found()
    for name, value in expected.items():
        assert torch.equal(under[name], value), name


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_tokens_that_are_no_numbers_are_an_error(value):
    """Of the row that has them; what stands in the padding is not looked at."""
    torch.manual_seed(0)
    audio, query, first = torch.randn(2, 12, 10), torch.randn(2, 3, 10), layer()
    audio[0, 10:] = torch.nan
    lengths = torch.tensor([10, 12])

    def kept(strategy, audio, query):
        prune = TokenPruner(strategy, keep=4, window=8)
        rows = prune(audio, lengths, query, first_layer=first)
        return [len(row) for row in rows]

    blind = {"none", "rap", "rac", "crop", "uniform"}
    looking = [n for n in STRATEGIES if n not in blind]
    broken, asked = audio.clone(), query.clone()
    broken[1, 5, 3] = asked[1, 0] = value
    match = "row 2 of 2 has NaN or infinite values"
    for strategy in looking:
        assert kept(strategy, audio, query) == [4, 4]
        if STRATEGIES[strategy].needs_query:
            with pytest.raises(ValueError, match=match):
                kept(strategy, audio, asked)
        with pytest.raises(ValueError, match=match):
            kept(strategy, broken, query)
    for score in QUERY_FREE_SCORES:
        staying_frames(audio, lengths, 0.5, score)
        with pytest.raises(ValueError, match=match):
            staying_frames(broken, lengths, 0.5, score)
