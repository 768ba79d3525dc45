"""What decides which audio tokens stay: similarity to the query, and first-layer attention.

Tokens of a batch are padded; `lengths` says how many of a row are real. After SpeechPrune
(arXiv 2412.12009), whose two phases read these two scores.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor

#: tokens that are converted at once
BLOCK = 1024
#: numbers that are multiplied at once: a megabyte stays in the cache of a core
CACHED = 2**18


P = ParamSpec("P")
Score = Callable[Concatenate[Tensor, P], Tensor]


def without_autocast(score: Score[P]) -> Score[P]:
    """A score that is the same under autocast, whose half precision would reorder tokens, and in
    which sums of signs overflow."""

    @functools.wraps(score)
    def call(tokens: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        with torch.autocast(tokens.device.type, enabled=False):
            return score(tokens, *args, **kwargs)

    return call


@dataclass(frozen=True)
class FirstLayer:
    """The query and key projections of a language model's first layer.

    Args:
        query_weight: (heads * head_size, D), as in `torch.nn.Linear`.
        key_weight: (kv_heads * head_size, D); `kv_heads` divides `heads`.
        heads: number of query heads.
        norm_gain: (D,) of the RMSNorm before the layer; ones when absent.
        norm_eps: of the same.
        query_bias, key_bias: of the projections, (heads * head_size,) and (kv_heads * head_size,).
        query_gain, key_gain: (head_size,) of an RMSNorm over each head, where the model has it.
        scale: of the attention's logits; 1 / sqrt(head_size) when absent.
    """

    query_weight: Tensor
    key_weight: Tensor
    heads: int
    norm_gain: Tensor | None = None
    norm_eps: float = 1e-6
    query_bias: Tensor | None = None
    key_bias: Tensor | None = None
    query_gain: Tensor | None = None
    key_gain: Tensor | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        queries, keys, heads = len(self.query_weight), len(self.key_weight), self.heads
        if queries % heads:
            raise ValueError(f"query_weight has {queries} rows, which {heads} heads do not divide")
        if keys % self.head_size or heads % self.kv_heads:
            what = f"a number of heads of size {self.head_size} that divides {heads}"
            raise ValueError(f"key_weight has {keys} rows, which is not {what}")

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


def check_scores(scores: Tensor, lengths: Tensor) -> None:
    """ValueError for scores (B, N) of real tokens, `lengths` (B,) a row, that are NaN or infinite:
    they rank nothing."""
    wrong = (~scores.isfinite() & inside(lengths, scores.shape[1])).any(1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"token pruning: row {row + 1} of {len(scores)} has NaN or infinite values among its "
            "tokens, or in its query"
        )


@without_autocast
def query_similarity(audio: Tensor, query: Tensor, query_lengths: Tensor) -> Tensor:
    """Mean cosine similarity of every audio token to the tokens of the query.

        F = cosine(S, T) in R^{N x L};   result_j = (1 / L) sum_l F_jl

    The mean is taken over the unit vectors of T before the product, which is the same number at a
    cost of N D instead of N L D. Equal tokens get equal numbers, wherever they stand and whatever
    the order of the query's: the mean is taken in float64, and each product by itself.

    Args:
        audio: (B, N, D) S, the tokens as the language model receives them.
        query: (B, L, D) T, embeddings of the query's text without any special token.
        query_lengths: (B,) at least 1.
    Returns: (B, N) float32 in [-1, 1]; what padded audio tokens get means nothing.
    """
    real = inside(query_lengths, query.shape[1])[..., None]
    unit = F.normalize(query.float(), dim=-1) * real
    direction = (unit.double().sum(1) / query_lengths[:, None]).float()
    # Not as a matrix product, which rounds a row by where it stands; divided by the norms last,
    # so that there is no copy of a long recording, which is read from memory once
    size = max(1, CACHED // (len(audio) * audio.shape[2]))
    products, norms = [], []
    for part in audio.split(size, dim=1):
        part = part.float()
        products.append((part * direction[:, None]).sum(-1))
        norms.append(part.norm(dim=-1))
    return torch.cat(products, 1) / torch.cat(norms, 1).clamp_min(1e-12)


#: how `attention_received` reads the first layer
ATTENTIONS = ("binarised", "gains", "true")


@without_autocast
def attention_received(
    tokens: Tensor,
    lengths: Tensor,
    layer: FirstLayer,
    kind: str = "binarised",
    most_queries: int = 4096,
    block: int = 2**23,
) -> Tensor:
    """Log of the attention that every token receives in the first layer, binarised as in the paper.

        Q' = sign(S) sign(Wq),  K' = sign(S) sign(Wk),  A = softmax(Q' K'^T / sqrt(d_k))
        result_j = log mean_{heads, i} A_ij

    Where the paper is silent: heads are averaged, a key head serves its group of query heads, and
    biases and rotary positions are left out (signs have no scale to add a bias to; the score is of
    content). RMSNorm before the layer does not change signs as long as its gains g are positive;
    `gains` takes them into account, sign(W diag(g)). `true` binarises nothing: Q = RMSNorm(S) Wq^T
    + b, with the model's own normalisation of heads and scale, and A as above, still without rotary
    positions and without a causal mask.

    sign(0) is 1. The paper averages over the axis along which a softmax sums to 1; only the mean
    over queries ranks anything. Since signs make scores so large that A is nearly one-hot, the
    logarithm keeps the order of tokens whose attention would underflow to 0. Sums are in float64
    (and so is all of `true`), so that equal tokens get the same number, wherever they stand.

    Recordings of more than `most_queries` tokens (164 s at 25 a second) ask with that many, evenly
    spaced: the mean is over them, and time grows with N from there on.

    Args:
        tokens, lengths: (B, N, D), and (B,) the real ones, at least 1.
        kind: one of `ATTENTIONS`.
        block: numbers of A that are in memory at once (but a row of one key head at least), and a
            quarter of those of K (but one head).
    Returns: (B, N) float32, -inf in the padding. Time grows with N min(N, most_queries), memory
        with N.
    """
    size = tokens.shape[1]
    real = inside(lengths, size)
    asked = lengths.clamp(max=most_queries)
    read = _Reader(layer, kind)
    asking = tokens
    if size > most_queries:
        i = torch.arange(most_queries, device=tokens.device)[None]
        places = torch.where(i < asked[:, None], i * lengths[:, None] // asked[:, None], 0)
        asking = tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))
    q = read(asking, "query", 0, layer.heads)
    q = q.unflatten(1, (layer.kv_heads, -1))
    group, padded = q.shape[2], bool((lengths < size).any())
    shape = len(tokens), layer.kv_heads, size
    received = tokens.new_full(shape, -torch.inf, dtype=torch.double)
    # as many rows as may be, for the keys are read once for each block of them, then heads
    row = len(tokens) * group * size
    rows = min(q.shape[3], max(1, block // row))
    heads = max(1, block // (row * rows))
    held = max(heads, 4 * block // (len(tokens) * size * layer.head_size))
    keys, first = None, 0
    for h in range(0, layer.kv_heads, heads):
        if keys is None or h + heads > first + held:
            keys, first = read(tokens, "key", h, min(held, layer.kv_heads - h)), h
            keys = keys.transpose(-1, -2)
        k = keys[:, h - first : h - first + heads]
        for start in range(0, int(asked.max()), rows):
            some = q[:, h : h + heads, :, start : start + rows]
            scores = some.flatten(2, 3) @ k / read.divisor
            if padded:
                scores.masked_fill_(~real[:, None, None], -torch.inf)
            log_a = scores.log_softmax(-1)
            if padded:
                beyond = ~inside(asked - start, some.shape[3]).repeat(1, group)
                log_a.masked_fill_(beyond[:, None, :, None], -torch.inf)
            most = log_a.amax(2).clamp_min(-1e30)  # -inf is of the padding
            # e^-80 is nothing beside the 1 of the greatest; what underflows is slow on CPUs
            powers = log_a.sub_(most[:, :, None]).clamp_(min=-80.0).exp_()
            sums = powers.sum(2, dtype=torch.double).log() + most
            received[:, h : h + heads] = torch.logaddexp(received[:, h : h + heads], sums)
    result = received.logsumexp(1) - torch.log(asked * float(layer.heads))[:, None]
    return result.float().masked_fill(~real, -torch.inf)


class _Reader:
    """Queries and keys of a first layer, as a `kind` of attention has them."""

    def __init__(self, layer: FirstLayer, kind: str):
        if kind not in ATTENTIONS:
            raise ValueError(f"attention '{kind}' is unknown, choose from {', '.join(ATTENTIONS)}")
        self.layer, self.true = layer, kind == "true"
        self.divisor = layer.head_size**0.5
        if self.true and layer.scale is not None:
            self.divisor = 1 / layer.scale
        gain = layer.norm_gain if kind == "gains" else None
        self.gain = None if gain is None else gain.float()

    def __call__(self, tokens: Tensor, which: str, first: int, number: int) -> Tensor:
        """(B, number, N, head_size): some heads of all tokens (B, N, D), block by block."""
        size = self.layer.head_size
        rows = slice(first * size, (first + number) * size)
        weight = getattr(self.layer, f"{which}_weight")[rows]
        if self.true:
            weight = weight.double()
        else:
            weight = _sign(weight if self.gain is None else weight.float() * self.gain)
        out = [self._heads(part, weight, which, rows) for part in tokens.split(BLOCK, dim=1)]
        return out[0] if len(out) == 1 else torch.cat(out, 2)

    def _heads(self, tokens: Tensor, weight: Tensor, which: str, rows: slice) -> Tensor:
        if not self.true:
            return _heads(_sign(tokens) @ weight.T, self.layer.head_size)
        found = _rms_norm(tokens.double(), self.layer.norm_gain, self.layer.norm_eps) @ weight.T
        bias = getattr(self.layer, f"{which}_bias")
        if bias is not None:
            found += bias[rows].double()
        heads, gain = _heads(found, self.layer.head_size), getattr(self.layer, f"{which}_gain")
        return heads if gain is None else _rms_norm(heads, gain, self.layer.norm_eps)


def _rms_norm(x: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    normal = x * (x.square().mean(-1, keepdim=True) + eps).rsqrt()
    return normal if gain is None else normal * gain.to(x)


def _sign(x: Tensor) -> Tensor:
    """1 or -1 in float32; sign(0) is 1."""
    # on CPUs a third of the time of where(x >= 0, 1.0, -1.0), which is a fifth of phase 2
    return x.float().sign().add_(0.5).sign_()


def _heads(x: Tensor, size: int) -> Tensor:
    """(B, N, heads * size) -> (B, heads, N, size)."""
    return x.unflatten(-1, (-1, size)).transpose(1, 2)
