"""The two phases of SpeechPrune: budgets per second by similarity, then attention.

All functions take padded batches and return (B, N) bool masks of the tokens that stay.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_prune.tokens.scores import BLOCK, FirstLayer, attention_received, check_scores, inside


def frame_budgets(scores: Tensor, capacity: Tensor, total: Tensor) -> Tensor:
    """Share a number of tokens among frames.

        n_i ~ min(c_i, lambda p_i),  p = softmax(scores),  sum_i n_i = total

    The paper takes floor(total p_i). What it leaves open: a frame never gets more than it has, and
    what it cannot use goes to the others in proportion to p (lambda grows); the remainder of the
    floors goes to the largest fractions, the earlier frame first. So the sum is exact.

    Args:
        scores: (B, m).
        capacity: (B, m) whole numbers of tokens in each frame, 0 for padding.
        total: (B,) whole numbers, at most the capacity of the row.
    Returns: (B, m) whole numbers.
    Raises:
        ValueError: a total beyond the capacity, or below 0.

    >>> scores, capacity = torch.tensor([[0.0, 0.0, 9.0]]), torch.tensor([[25, 25, 10]])
    >>> frame_budgets(scores, capacity, total=torch.tensor([20]))
    tensor([[ 5,  5, 10]])
    """
    room = capacity.sum(1)
    if bool((total > room).any()) or bool((total < 0).any()):
        raise ValueError(f"{total.tolist()} tokens are to be kept of {room.tolist()}")
    c = capacity.double()
    wanted = total.double()[:, None]
    p = scores.double().masked_fill(capacity == 0, -torch.inf).softmax(1)
    p = p.masked_fill(capacity == 0, 0.0).clamp_min(1e-300)
    # lambda by water-filling: frames fill up in the order of c / p. Were the first k full, lambda
    # would be (total - their capacity) / (p of the others); it is the first that fills no other.
    full_at, order = (c / p).sort(dim=1, stable=True)
    p_sorted, c_sorted = p.gather(1, order), c.gather(1, order)
    c_before = c_sorted.cumsum(1) - c_sorted
    p_after = p_sorted.flip(1).cumsum(1).flip(1)
    level = (wanted - c_before) / p_after
    fits = level <= full_at
    fits[:, -1] = True
    first = fits.double().argmax(1, keepdim=True)
    share = torch.minimum(c, p * level.gather(1, first))
    # 1e-9: what is a whole number but for rounding must not lose one to the floor
    n = torch.minimum((share + 1e-9).floor(), c)
    fraction = (share - n).masked_fill(n >= c, -1.0)
    rank = fraction.argsort(dim=1, descending=True, stable=True).argsort(1)
    n = n + (rank < (wanted - n.sum(1, keepdim=True))).double()
    return n.long()


def first_phase(
    similarity: Tensor, lengths: Tensor, keep: Tensor, frame_tokens: int = 25
) -> Tensor:
    """Phase 1: seconds that are like the query get more tokens, each second its most similar ones.

    Args:
        similarity: (B, N) of `query_similarity`.
        lengths, keep: (B,) real tokens, and those of them that stay.
        frame_tokens: tokens of about one second.
    Returns: (B, N) bool with exactly `keep` True in each row.
    Raises:
        ValueError: NaN or infinity among the similarities of real tokens, or as `frame_budgets`.

    >>> similarity = torch.tensor([[0.1, 0.3, 0.2, 0.9, 0.8, 0.7]])
    >>> first_phase(similarity, torch.tensor([6]), torch.tensor([4]), frame_tokens=3).long()
    tensor([[0, 1, 0, 1, 1, 1]])
    """
    check_scores(similarity, lengths)
    batch, n = similarity.shape
    frames = -(-n // frame_tokens)
    pad = (0, frames * frame_tokens - n)
    real = torch.nn.functional.pad(inside(lengths, n), pad).view(batch, frames, -1)
    # float64: a sum of these is exact, so that the order of a frame's tokens changes nothing
    tokens = torch.nn.functional.pad(similarity.double(), pad).view(batch, frames, -1)
    budget = frame_budgets(tokens.masked_fill(~real, 0.0).sum(2), real.sum(2), keep)
    order = tokens.masked_fill(~real, -torch.inf).argsort(dim=2, descending=True, stable=True)
    kept = order.argsort(2) < budget[..., None]
    return kept.view(batch, -1)[:, :n]


def second_phase(
    audio: Tensor,
    lengths: Tensor,
    keep: Tensor,
    layer: FirstLayer,
    among: Tensor | None = None,
    attention: str = "binarised",
) -> Tensor:
    """Phase 2: the tokens that receive most attention in the binarised first layer.

    Args:
        audio: (B, N, D).
        lengths, keep: (B,) real tokens, and those that stay, at most all of `among`.
        among: (B, N) bool: what phase 1 has left; all real tokens when absent.
        attention: how the layer is read, see `attention_received`.
    Returns: (B, N) bool with exactly `keep` True in each row.
    Raises:
        ValueError: NaN or infinite values among the tokens.
    """
    among = inside(lengths, audio.shape[1]) if among is None else among
    # Bring what is left to the front, in time order, so that the work is done on it alone.
    counts = among.sum(1)
    order = (~among).long().argsort(dim=1, stable=True)[:, : int(counts.max())]
    tokens = audio
    if order.shape[1] < audio.shape[1]:
        tokens = audio.gather(1, order[..., None].expand(-1, -1, audio.shape[2]))
    # of the scores NaN is gone: a sign is 1 or -1
    largest = torch.cat([part.abs().amax(-1) for part in tokens.split(BLOCK, dim=1)], 1)
    check_scores(largest, counts)
    chosen = top(attention_received(tokens, counts, layer, attention), keep)
    return torch.zeros_like(among).scatter(1, order, chosen)


def top(scores: Tensor, keep: Tensor) -> Tensor:
    """(B, N) bool of the `keep` (B,) greatest scores of each row, the earlier of equal ones."""
    return scores.argsort(dim=1, descending=True, stable=True).argsort(1) < keep[:, None]
