"""What decides which audio tokens stay: similarity to the query, and first-layer attention.

Tokens of a batch are padded; `lengths` says how many of a row are real. After SpeechPrune
(arXiv 2412.12009), whose two phases read these two scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class FirstLayer:
    """The query and key projections of a language model's first layer.

    Args:
        query_weight: (heads * head_size, D), as in `torch.nn.Linear`.
        key_weight: (kv_heads * head_size, D); `kv_heads` divides `heads`.
        heads: number of query heads.
    """

    query_weight: Tensor
    key_weight: Tensor
    heads: int

    def __post_init__(self):
        if self.query_weight.shape[0] % self.heads:
            raise ValueError(
                f"query_weight has {self.query_weight.shape[0]} rows, which {self.heads} heads "
                "do not divide"
            )
        if self.key_weight.shape[0] % self.head_size or self.heads % self.kv_heads:
            raise ValueError(
                f"key_weight has {self.key_weight.shape[0]} rows, which is no number of heads of "
                f"size {self.head_size} that divides {self.heads}"
            )

    @property
    def head_size(self) -> int:
        """Dimensions of one head."""
        return self.query_weight.shape[0] // self.heads

    @property
    def kv_heads(self) -> int:
        """Number of key heads; each serves `heads // kv_heads` query heads."""
        return self.key_weight.shape[0] // self.head_size


def inside(lengths: Tensor, size: int) -> Tensor:
    """(B, size) bool: which of the padded positions are real, for (B,) `lengths`."""
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


def query_similarity(audio: Tensor, query: Tensor, query_lengths: Tensor) -> Tensor:
    """Mean cosine similarity of every audio token to the tokens of the query.

        F = cosine(S, T) in R^{N x L};   result_j = (1 / L) sum_l F_jl

    The mean is taken over the unit vectors of T before the product, which is the same number at a
    cost of N D instead of N L D.

    Args:
        audio: (B, N, D) S, the tokens as the language model receives them.
        query: (B, L, D) T, embeddings of the query's text without any special token.
        query_lengths: (B,) at least 1.
    Returns: (B, N) float32 in [-1, 1]; what padded audio tokens get means nothing.
    """
    real = inside(query_lengths, query.shape[1])[..., None]
    unit = F.normalize(query.float(), dim=-1) * real
    direction = unit.sum(1) / query_lengths[:, None]
    return (F.normalize(audio.float(), dim=-1) @ direction[..., None]).squeeze(-1)


def attention_received(
    tokens: Tensor, lengths: Tensor, layer: FirstLayer, block: int = 256
) -> Tensor:
    """Log of the attention that every token receives in the binarised first layer.

        Q' = sign(S) sign(Wq),  K' = sign(S) sign(Wk),  A = softmax(Q' K'^T / sqrt(d_k))
        result_j = log mean_{heads, i} A_ij

    Where the paper is silent: heads are averaged, a key head serves its group of query heads, and
    biases and rotary positions are left out (signs have no scale to add a bias to; the score is of
    content). RMSNorm before the layer does not change signs as long as its gains are positive.
    sign(0) is 1. The paper averages over the axis along which a softmax sums to 1; only the mean
    over queries ranks anything. Since signs make scores so large that A is nearly one-hot, the
    logarithm keeps the order of tokens whose attention would underflow to 0.

    Args:
        tokens: (B, N, D).
        lengths: (B,) real tokens, at least 1.
        block: rows of A that are in memory at once.
    Returns: (B, N) float32, -inf in the padding. Time grows with N^2, memory with block * N.
    """
    real = inside(lengths, tokens.shape[1])
    signs = _sign(tokens)
    q = _heads(signs @ _sign(layer.query_weight).T, layer.heads)
    k = _heads(signs @ _sign(layer.key_weight).T, layer.kv_heads)
    k = k.repeat_interleave(layer.heads // layer.kv_heads, dim=1)
    received = torch.full((*k.shape[:2], k.shape[2]), -torch.inf, device=tokens.device)
    for start in range(0, q.shape[2], block):
        rows = real[:, start : start + block]
        scores = q[:, :, start : start + block] @ k.transpose(-1, -2) / layer.head_size**0.5
        log_a = scores.masked_fill(~real[:, None, None], -torch.inf).log_softmax(-1)
        log_a = log_a.masked_fill(~rows[:, None, :, None], -torch.inf)
        received = torch.logaddexp(received, log_a.logsumexp(2))
    result = received.logsumexp(1) - torch.log(lengths * float(layer.heads))[:, None]
    return result.masked_fill(~real, -torch.inf)


def _sign(x: Tensor) -> Tensor:
    """1 or -1 in float32."""
    return torch.where(x >= 0, 1.0, -1.0)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, heads * size) -> (B, heads, N, size)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
