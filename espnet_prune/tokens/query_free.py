"""Dropping frames without a query: how much a frame says by itself, and the frames that stay.

For utterance-level tasks, whose encoders have neither a question nor a language model's attention.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from espnet_prune.tokens.phases import top
from espnet_prune.tokens.pruner import check_rate
from espnet_prune.tokens.scores import check_scores, inside, query_similarity, without_autocast


@without_autocast
def novelty(frames: Tensor, lengths: Tensor) -> Tensor:
    """How little a frame is like the one before it.

        result_t = 1 - cos(h_t, h_{t-1}),   result_1 = 2

    The redundancy by which adjacent token merging (A-ToMe, arXiv 2306.16009) finds pairs, here of
    the hidden states themselves: the onset of a sound stays, what merely continues it goes. Nothing
    comes before the first frame, so it has the greatest value that there is.

    For frames (B, T, D), of which (B,) `lengths` are real: (B, T) float32 in [0, 2], the more the
    better; -inf in the padding.
    """
    unit = F.normalize(frames.float(), dim=-1)
    scores = F.pad(1.0 - (unit[:, 1:] * unit[:, :-1]).sum(-1), (1, 0), value=2.0)
    return scores.masked_fill(~inside(lengths, frames.shape[1]), -torch.inf)


@without_autocast
def typicality(frames: Tensor, lengths: Tensor) -> Tensor:
    """How much a frame is like the mean of its utterance.

        result_t = cos(h_t, (1 / T) sum_s h_s)

    The similarity of SpeechPrune's first phase with the utterance itself in the place of the query.
    Arguments and result are those of `novelty`, with values in [-1, 1].
    """
    real = inside(lengths, frames.shape[1])
    mean = frames.float().masked_fill(~real[..., None], 0.0).sum(1) / lengths[:, None]
    scores = query_similarity(frames, mean[:, None], torch.ones_like(lengths))
    return scores.masked_fill(~real, -torch.inf)


#: (frames (B, T, D), lengths (B,)) -> (B, T), by the name that a YAML file gives
QUERY_FREE_SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "neighbours": novelty,
    "mean": typicality,
}


def check_query_free(rate: float, score: str) -> None:
    """ValueError for a rate outside [0, 1) or an unknown score."""
    check_rate(rate)
    if score not in QUERY_FREE_SCORES:
        known = ", ".join(QUERY_FREE_SCORES)
        raise ValueError(f"token pruning: unknown score '{score}', choose from {known}")


@torch.no_grad()
def staying_frames(
    frames: Tensor, lengths: Tensor, rate: float, score: str = "neighbours"
) -> tuple[Tensor, Tensor]:
    """The frames of each utterance with the greatest scores.

    Of n frames k = max(1, round((1 - rate) n)) stay: a rate is of the utterance itself, not of 30 s
    as in `TokenPruner`. Of equal scores the earlier frame stays.

    Args:
        frames, lengths: (B, T, D), and (B,) the real ones, 1 to T.
        rate, score: in [0, 1); key of `QUERY_FREE_SCORES`.
    Returns: indices into T (B, max k), in time order as far as they are real, and new lengths (B,).
    Raises:
        ValueError: as `check_query_free`; an utterance without frames, or with NaN in them.

    >>> frames = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    >>> indices, lengths = staying_frames(frames, torch.tensor([4]), rate=0.5)
    >>> indices
    tensor([[0, 2]])
    """
    check_query_free(rate, score)
    if not len(lengths) or int(lengths.min()) < 1 or int(lengths.max()) > frames.shape[1]:
        sizes = f"utterances of {lengths.tolist()} frames in a batch of {frames.shape[1]}"
        raise ValueError(f"token pruning: {sizes}; each needs one at least")
    keep = ((1.0 - rate) * lengths.double()).round().long().clamp_min(1)
    scores = QUERY_FREE_SCORES[score](frames, lengths)
    check_scores(scores, lengths)
    kept = top(scores, keep)
    order = (~kept).long().argsort(dim=1, stable=True)
    return order[:, : int(keep.max())], keep


def take_frames(frames: Tensor, indices: Tensor, lengths: Tensor) -> Tensor:
    """(B, K, D) of (B, T, D): the frames of `staying_frames`, zeros in the padding."""
    taken = frames.gather(1, indices[..., None].expand(-1, -1, frames.shape[2]))
    return taken.masked_fill(~inside(lengths, indices.shape[1])[..., None], 0.0)
