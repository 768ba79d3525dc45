"""Merging: tokens that become one, their mean, at the place of the first of them.

All take one recording, and return for each of its N tokens the number of the group that it belongs
to. Groups are numbered by their first tokens. As weights (K, N), W_gj = 1 / |g| where j is in g:
each row sums to 1, and each token is in one row.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from espnet_prune.tokens.greedy import norms
from espnet_prune.tokens.scores import BLOCK, without_autocast


def numbered(groups: Tensor) -> Tensor:
    """Groups (N,), any numbers, numbered by their first tokens from 0 on; -1 stays."""
    labels, inverse = groups.unique(return_inverse=True)
    places = torch.arange(len(groups), device=groups.device)
    first = torch.full_like(labels, len(groups)).scatter_reduce(0, inverse, places, "amin")
    first = torch.where(labels < 0, -1, first)
    rank = first.argsort().argsort() - int((labels < 0).sum())
    return rank.clamp_min(-1)[inverse]


def means(tokens: Tensor, groups: Tensor) -> Iterator[Tensor]:
    """(G_i, D) float32 means of groups, some at a time, so that no copy of all tokens is made.

    Args:
        tokens: (N, D).
        groups: (N,) of 0 to G - 1, each there, or -1 for what is in none.
    """
    order = groups.argsort(stable=True)
    order = order[int((groups < 0).sum()) :]
    labels = groups[order]
    sizes = torch.bincount(labels) if len(labels) else labels
    ends = sizes.cumsum(0)
    start = 0
    while start < len(sizes):
        begin = int(ends[start] - sizes[start])
        stop = max(start + 1, int(torch.searchsorted(ends, begin + BLOCK, right=True)))
        sums = tokens.new_zeros(stop - start, tokens.shape[1], dtype=torch.float)
        # a group may have more tokens than a block
        for some in order[begin : int(ends[stop - 1])].split(BLOCK):
            sums.index_add_(0, groups[some] - start, tokens[some].float())
        yield sums / sizes[start:stop, None]
        start = stop


@without_autocast
def neighbour_cosines(tokens: Tensor) -> Tensor:
    """(N - 1,) cosine similarities of tokens (N, D) with the next."""
    size = norms(tokens).clamp_min(1e-12)
    cosines = torch.empty_like(size[1:])
    for start in range(0, len(cosines), BLOCK):  # one block in float32 at a time
        part = tokens[start : start + BLOCK + 1].float()
        cosines[start : start + BLOCK] = (part[:-1] * part[1:]).sum(-1)
    return cosines / (size[:-1] * size[1:])


def like_neighbours(tokens: Tensor, keep: int) -> Tensor:
    """Groups of the adjacent pairs of greatest cosine, as FastAdaSP (arXiv 2410.03007) merges.

    The N - K most similar pairs of neighbours become one token each; pairs that share a token are
    a longer run. There it is done in layers of the language model, and weighted by attention; here
    once, of the audio tokens, and the mean. Of equal pairs the earlier are merged.
    """
    likeness = neighbour_cosines(tokens)
    order = likeness.argsort(descending=True, stable=True)
    borders = torch.ones(len(tokens), dtype=torch.long, device=tokens.device)
    borders[order[: len(tokens) - keep] + 1] = 0
    return borders.cumsum(0) - 1


def like_runs(tokens: Tensor, keep: int, threshold: float = 0.9) -> Tensor:
    """Groups that are runs of neighbours of a mean cosine of `threshold` at least, K or more.

    After SA-MAP (a branch of Tencent's AngelSlim, 2026): in time order, the next token joins the
    run as long as the mean of the cosines of neighbours in it is no less. Where so few runs would
    be left that K tokens are not reached, it is `like_neighbours`.
    """
    borders, total, number = [True], 0.0, 0
    for cosine in neighbour_cosines(tokens).tolist():
        joins = (total + cosine) / (number + 1) >= threshold
        total, number = (total + cosine, number + 1) if joins else (0.0, 0)
        borders.append(not joins)
    groups = torch.tensor(borders, device=tokens.device).long().cumsum(0) - 1
    return groups if int(groups[-1]) + 1 >= keep else like_neighbours(tokens, keep)


@without_autocast
def like_in_windows(tokens: Tensor, keep: int, window: int) -> Tensor:
    """K groups by bipartite merging in windows of time (arXiv 2605.25179; ToMe, arXiv 2210.09461).

    In rounds: the tokens of each window are dealt to two sets in turn; each of the first is linked
    to the one of the second that has the greatest cosine with it; the links of greatest cosine are
    merged, at most so many that K tokens are left. The mean counts a merged token by its tokens.
    Of equal links the earlier are merged.

    Args:
        window: tokens of a window, 2 or more; in later rounds of what is left.
    """
    groups = torch.arange(len(tokens), device=tokens.device)
    window = max(2, window)
    while (left := int(groups.max()) + 1) > keep:
        scores, targets = [], []
        rest, at = tokens.new_zeros(0, tokens.shape[1], dtype=torch.float), 0
        for part in means(tokens, groups):
            rest = torch.cat([rest, part])
            whole = len(rest) if at + len(rest) == left else len(rest) // window * window
            for some in rest[:whole].split(window) if whole else ():
                best, where = _links(some)
                scores.append(best)
                targets.append(at + where)
                at += len(some)
            rest = rest[whole:]
        score, target = torch.cat(scores), torch.cat(targets)
        places = torch.arange(left, device=tokens.device)
        first = places[places % window % 2 == 0]
        links = score.argsort(descending=True, stable=True)[: left - keep]
        links = links[score[links] > -torch.inf]
        places[first[links]] = target[links]
        groups = numbered(places[groups])
    return groups


def _links(some: Tensor) -> tuple[Tensor, Tensor]:
    """Of a window (W, D): for each token at an even place the greatest cosine with one at an odd
    place, and which; -inf where there is none."""
    # float64, so that equal tokens have equal cosines
    unit = torch.nn.functional.normalize(some.double(), dim=-1)
    if len(some) == 1:
        return some.new_full((1,), -torch.inf), torch.zeros(1, dtype=torch.long, device=some.device)
    best, where = (unit[::2] @ unit[1::2].T).float().max(1)
    return best, 2 * where + 1
