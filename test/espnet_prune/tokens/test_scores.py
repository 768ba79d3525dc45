import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.tokens import FirstLayer, attention_received, query_similarity


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


def attention_by_hand(tokens, first):
    """mean over heads and queries of softmax(sign(S) sign(Wq) (sign(S) sign(Wk))^T / sqrt(d))."""
    sign = lambda x: torch.where(x >= 0, 1.0, -1.0).double()  # noqa: E731
    q = sign(tokens) @ sign(first.query_weight).T
    k = sign(tokens) @ sign(first.key_weight).T
    size, group = first.head_size, first.heads // first.kv_heads
    total = torch.zeros(len(tokens), dtype=torch.double)
    for head in range(first.heads):
        qh = q[:, head * size : (head + 1) * size]
        kv = head // group
        kh = k[:, kv * size : (kv + 1) * size]
        total += (qh @ kh.T / math.sqrt(size)).softmax(1).mean(0)
    return total / first.heads


@given(st.integers(0, 10_000), st.sampled_from([(4, 4), (4, 2), (4, 1)]), st.integers(1, 6))
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


def test_attention_that_underflows_is_still_ranked():
    first = layer(1, 1, size=128, width=1024)
    tokens = torch.randn(1, 300, 1024)
    got = attention_received(tokens, torch.tensor([300]), first)
    assert torch.isfinite(got).all()
    lost = got[got.exp() == 0]  # the plain number could not tell these apart
    assert len(lost) > 10 and len(lost.unique()) == len(lost)


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
