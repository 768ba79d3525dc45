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
        lengths: (B,) how many of them are real.
        query: (B, L, D) embeddings of the query's text, without special tokens and system prompt.
        query_lengths: (B,).
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

    def similarity(self) -> Tensor:
        """(B, N) mean cosine similarity to the query."""
        return query_similarity(self.audio, self.query, self.query_lengths)


#: (tokens, keep (B,)) -> (B, N) bool, `keep` True in each row
Choose = Callable[[Tokens, Tensor], Tensor]


@dataclass(frozen=True)
class Strategy:
    """A way to choose, and what it needs to look at."""

    choose: Choose
    needs_query: bool = False
    needs_first_layer: bool = False
    random: bool = False


def _none(t: Tokens, keep: Tensor) -> Tensor:
    return inside(t.lengths, t.audio.shape[1])


def _first(t: Tokens, keep: Tensor) -> Tensor:
    return first_phase(t.similarity(), t.lengths, keep, t.frame_tokens)


def _second(t: Tokens, keep: Tensor) -> Tensor:
    return second_phase(t.audio, t.lengths, keep, t.first_layer)


def _speechprune(t: Tokens, keep: Tensor) -> Tensor:
    left = _first(t, torch.maximum(keep, t.lengths.clamp(max=t.window)))
    return second_phase(t.audio, t.lengths, keep, t.first_layer, left)


def _crop(t: Tokens, keep: Tensor) -> Tensor:
    return inside(keep, t.audio.shape[1])


def _uniform(t: Tokens, keep: Tensor) -> Tensor:
    # Token j stays where floor(j k / n) steps: exactly k times in n tokens, evenly.
    position = torch.arange(t.audio.shape[1], device=t.audio.device)[None]
    n, k = t.lengths[:, None], keep[:, None]
    return ((position + 1) * k // n > position * k // n) & (position < n)


def _random_tokens(t: Tokens, keep: Tensor) -> Tensor:
    kept = torch.zeros(t.audio.shape[:2], dtype=torch.bool)
    for row, (n, k) in enumerate(zip(t.lengths.tolist(), keep.tolist(), strict=True)):
        kept[row, torch.randperm(n, generator=_generator(t, row))[:k]] = True
    return kept.to(t.audio.device)


def _random_crop(t: Tokens, keep: Tensor) -> Tensor:
    kept = torch.zeros(t.audio.shape[:2], dtype=torch.bool)
    for row, (n, k) in enumerate(zip(t.lengths.tolist(), keep.tolist(), strict=True)):
        start = int(torch.randint(n - k + 1, (), generator=_generator(t, row)))
        kept[row, start : start + k] = True
    return kept.to(t.audio.device)


def _generator(t: Tokens, row: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(t.seeds[row]))


STRATEGIES: dict[str, Strategy] = {
    "none": Strategy(_none),
    "speechprune": Strategy(_speechprune, needs_query=True, needs_first_layer=True),
    "first_phase": Strategy(_first, needs_query=True),
    "second_phase": Strategy(_second, needs_first_layer=True),
    "rap": Strategy(_random_tokens, random=True),
    "rac": Strategy(_random_crop, random=True),
    "crop": Strategy(_crop),
    "uniform": Strategy(_uniform),
}
