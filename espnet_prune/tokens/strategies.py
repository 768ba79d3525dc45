"""Strategies: which tokens of a recording stay, or become one. SpeechPrune, its ablations, its
baselines, and methods that came after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_prune.tokens.greedy import (
    between_0_and_1,
    far_apart,
    marginally_relevant,
    most_diverse,
    norms,
)
from espnet_prune.tokens.merging import like_in_windows, like_neighbours, like_runs, means, numbered
from espnet_prune.tokens.phases import first_phase, second_phase
from espnet_prune.tokens.scores import (
    FirstLayer,
    attention_received,
    check_scores,
    inside,
    query_similarity,
)


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
    needs to look at.

    One that `merges` returns (B, N) whole numbers instead: of `keep` groups of tokens, 0 to keep -
    1, whose means take their places; -1 for padding and for tokens that are dropped.
    """

    choose: Callable[[Tokens, Tensor], Tensor]
    needs_query: bool = False
    needs_first_layer: bool = False
    random: bool = False
    merges: bool = False

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
    return _speechprune(t, keep, "binarised")


def by_gains(t: Tokens, keep: Tensor) -> Tensor:
    """SpeechPrune, whose second phase takes the gains of the first layer's norm into account."""
    return _speechprune(t, keep, "gains")


def by_true_attention(t: Tokens, keep: Tensor) -> Tensor:
    """SpeechPrune, whose second phase computes the first layer's attention without binarising."""
    return _speechprune(t, keep, "true")


def _speechprune(t: Tokens, keep: Tensor, attention: str) -> Tensor:
    left = by_query(t, torch.maximum(keep, t.lengths.clamp(max=t.window)))
    assert t.first_layer is not None
    return second_phase(t.audio, t.lengths, keep, t.first_layer, left, attention)


def cdpruner(t: Tokens, keep: Tensor) -> Tensor:
    """CDPruner: the most diverse tokens, by a determinant that counts them by the question."""
    relevance = _similarity(t)
    return _rows(t, keep, lambda b, row, k: most_diverse(row, between_0_and_1(relevance[b]), k))


def idpruner(t: Tokens, keep: Tensor) -> Tensor:
    """IDPruner: like the question, and unlike what was chosen (maximal marginal relevance)."""
    relevance = _similarity(t)
    return _rows(
        t, keep, lambda b, row, k: marginally_relevant(row, between_0_and_1(relevance[b]), k)
    )


def divprune(t: Tokens, keep: Tensor) -> Tensor:
    """DivPrune: tokens as far from each other as may be."""
    _check(t)
    return _rows(t, keep, lambda b, row, k: far_apart(row, k))


def segments_by_attention(t: Tokens, keep: Tensor) -> Tensor:
    """Segments of equal size keep equally many, each those of most attention in the first layer."""
    _check(t)
    assert t.first_layer is not None
    return _of_segments(t, keep, attention_received(t.audio, t.lengths, t.first_layer))


def segments_by_energy(t: Tokens, keep: Tensor) -> Tensor:
    """Segments of equal size keep equally many, each its tokens of greatest norm."""
    return _of_segments(t, keep, _check(t))


def neighbours_merged(t: Tokens, keep: Tensor) -> Tensor:
    """Merging of the most similar neighbours, as FastAdaSP does."""
    _check(t)
    return _rows(t, keep, lambda b, row, k: like_neighbours(row, k), merged=True)


def runs_merged(t: Tokens, keep: Tensor) -> Tensor:
    """Merging of runs of similar tokens, then the most diverse by attention, as SA-MAP does."""
    _check(t)
    assert t.first_layer is not None
    attention = attention_received(t.audio, t.lengths, t.first_layer)

    def choose(b: int, row: Tensor, k: int) -> Tensor:
        groups = like_runs(row, k)
        number = int(groups.max()) + 1
        if number == k:
            return groups
        # what a run receives is the sum of what its tokens receive; logarithms, as of a row
        most = attention[b, : len(row)].max()
        sums = (attention[b, : len(row)] - most).double().exp()
        total = sums.new_zeros(number).index_add_(0, groups, sums)
        received = total.clamp_min(1e-300).log().float()
        runs = row if number == len(row) else torch.cat(list(means(row, groups)))
        chosen = most_diverse(runs, between_0_and_1(received), k)
        stays = torch.zeros(number, dtype=torch.bool, device=row.device)
        stays[chosen] = True
        return numbered(torch.where(stays[groups], groups, -1))

    return _rows(t, keep, choose, merged=True)


def windows_merged(t: Tokens, keep: Tensor) -> Tensor:
    """Bipartite merging in windows of a second."""
    _check(t)
    return _rows(t, keep, lambda b, row, k: like_in_windows(row, k, t.frame_tokens), merged=True)


def _similarity(t: Tokens) -> list[Tensor]:
    """Of the real tokens of each row to its query."""
    assert t.query is not None and t.query_lengths is not None
    found = query_similarity(t.audio, t.query, t.query_lengths)
    check_scores(found, t.lengths)
    return [row[:n] for row, n in zip(found, t.lengths.tolist(), strict=True)]


def _check(t: Tokens) -> Tensor:
    """(B, N) norms of the tokens (ValueError: NaN or infinite values among real ones)."""
    found = torch.stack([norms(row) for row in t.audio])
    check_scores(found, t.lengths)
    return found


def _rows(
    t: Tokens, keep: Tensor, choose: Callable[[int, Tensor, int], Tensor], merged: bool = False
) -> Tensor:
    """What `choose` says of each row, from its number, real tokens, and how many stay: indices, or
    groups."""
    kind, empty = (torch.long, -1) if merged else (torch.bool, False)
    found = torch.full(t.audio.shape[:2], empty, dtype=kind, device=t.audio.device)
    for b, (n, k) in enumerate(zip(t.lengths.tolist(), keep.tolist(), strict=True)):
        chosen = choose(b, t.audio[b, :n], k)
        if merged:
            found[b, :n] = chosen
        else:
            found[b, chosen] = True
    return found


def _of_segments(t: Tokens, keep: Tensor, scores: Tensor) -> Tensor:
    """The tokens of greatest score of each segment (arXiv 2511.14293, there by the attention of the
    audio encoder).

    Segments are seconds, or as many as tokens stay if those are fewer: of N tokens in S segments
    number s has those from floor(s N / S) on, and keeps floor((s + 1) K / S) - floor(s K / S).
    """

    def choose(b: int, row: Tensor, k: int) -> Tensor:
        n, chosen = len(row), []
        number = min(k, -(-n // t.frame_tokens))
        for s in range(number):
            start, end = s * n // number, (s + 1) * n // number
            some = scores[b, start:end].argsort(descending=True, stable=True)
            chosen.append(start + some[: (s + 1) * k // number - s * k // number])
        return torch.cat(chosen)

    return _rows(t, keep, choose)


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
    "speechprune_gains": Strategy(by_gains, needs_query=True, needs_first_layer=True),
    "speechprune_true": Strategy(by_true_attention, needs_query=True, needs_first_layer=True),
    "cdpruner": Strategy(cdpruner, needs_query=True),
    "idpruner": Strategy(idpruner, needs_query=True),
    "divprune": Strategy(divprune),
    "segments_attention": Strategy(segments_by_attention, needs_first_layer=True),
    "segments_energy": Strategy(segments_by_energy),
    "merge_neighbours": Strategy(neighbours_merged, merges=True),
    "merge_runs": Strategy(runs_merged, needs_first_layer=True, merges=True),
    "merge_windows": Strategy(windows_merged, merges=True),
    "rap": Strategy(random_tokens, random=True),
    "rac": Strategy(random_crop, random=True),
    "crop": Strategy(beginning),
    "uniform": Strategy(evenly),
}
