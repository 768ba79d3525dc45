"""Strategies: which tokens of a recording stay. SpeechPrune, its ablations and its baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_prune.tokens.phases import first_phase, second_phase
from espnet_prune.tokens.scores import FirstLayer, inside, query_similarity


@dataclass
class Tokens:
    """What a strategy may look at.

    Args:
        audio: (B, N, D) as the language model receives them.
        query: (B, L, D) embeddings of the query's text, without special tokens and system prompt.
        lengths, query_lengths: (B,) how many of both are real.
        first_layer: of the language model.
        frame_tokens: audio tokens a second.
        window: tokens that SpeechPrune's first phase leaves for the second.
        seeds: (B) whole numbers, of the random strategies.
    """

    audio: Tensor
    lengths: Tensor
    query: Tensor | None
    query_lengths: Tensor | None
    first_layer: FirstLayer | None
    frame_tokens: int
    window: int
    seeds: Sequence[int]


@dataclass(frozen=True)
class Strategy:
    """A way to choose, (tokens, keep (B,)) -> (B, N) bool with `keep` True in each row, and what it
    needs to look at."""

    choose: Callable[[Tokens, Tensor], Tensor]
    needs_query: bool = False
    needs_first_layer: bool = False
    random: bool = False

    @property
    def description(self) -> str:
        """What it keeps, in one line."""
        return (self.choose.__doc__ or "").partition("\n")[0]


def keep_all(t: Tokens, keep: Tensor) -> Tensor:
    """All tokens, whatever the rate."""
    return inside(t.lengths, t.audio.shape[1])


def by_query(t: Tokens, keep: Tensor) -> Tensor:
    """Phase 1 alone: seconds like the query keep more, each its most similar tokens."""
    assert t.query is not None and t.query_lengths is not None
    similarity = query_similarity(t.audio, t.query, t.query_lengths)
    return first_phase(similarity, t.lengths, keep, t.frame_tokens)


def by_attention(t: Tokens, keep: Tensor) -> Tensor:
    """Phase 2 alone: the tokens that receive most attention in the binarised first layer."""
    assert t.first_layer is not None
    return second_phase(t.audio, t.lengths, keep, t.first_layer)


def speechprune(t: Tokens, keep: Tensor) -> Tensor:
    """SpeechPrune: its first phase down to 30 s, then its second."""
    left = by_query(t, torch.maximum(keep, t.lengths.clamp(max=t.window)))
    assert t.first_layer is not None
    return second_phase(t.audio, t.lengths, keep, t.first_layer, left)


def beginning(t: Tokens, keep: Tensor) -> Tensor:
    """The beginning of the recording."""
    return inside(keep, t.audio.shape[1])


def evenly(t: Tokens, keep: Tensor) -> Tensor:
    """Tokens evenly spaced in time."""
    # Token j stays where floor(j k / n) steps: exactly k times in n tokens.
    position = torch.arange(t.audio.shape[1], device=t.audio.device)[None]
    n, k = t.lengths[:, None], keep[:, None]
    return ((position + 1) * k // n > position * k // n) & (position < n)


def random_tokens(t: Tokens, keep: Tensor) -> Tensor:
    """Tokens drawn at random (RAP)."""
    return _drawn(t, keep, lambda n, k, draw: torch.randperm(n, generator=draw)[:k])


def random_crop(t: Tokens, keep: Tensor) -> Tensor:
    """One crop that begins at random (RAC)."""
    return _drawn(
        t, keep, lambda n, k, draw: torch.randint(n - k + 1, (), generator=draw) + torch.arange(k)
    )


def _drawn(t: Tokens, keep: Tensor, choose: Callable[..., Tensor]) -> Tensor:
    """What `choose` draws of each row, from its numbers of tokens, kept ones, and a generator."""
    kept = torch.zeros(t.audio.shape[:2], dtype=torch.bool)
    for row, n, k, seed in zip(kept, t.lengths.tolist(), keep.tolist(), t.seeds, strict=True):
        row[choose(n, k, torch.Generator().manual_seed(int(seed)))] = True
    return kept.to(t.audio.device)


STRATEGIES: dict[str, Strategy] = {
    "none": Strategy(keep_all),
    "speechprune": Strategy(speechprune, needs_query=True, needs_first_layer=True),
    "first_phase": Strategy(by_query, needs_query=True),
    "second_phase": Strategy(by_attention, needs_first_layer=True),
    "rap": Strategy(random_tokens, random=True),
    "rac": Strategy(random_crop, random=True),
    "crop": Strategy(beginning),
    "uniform": Strategy(evenly),
}
