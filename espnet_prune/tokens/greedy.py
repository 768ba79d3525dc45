"""Token after token: choices in which a token counts by what was chosen before it.

All take one recording and return the indices of K tokens, in the order in which they were chosen.
Time grows with N K D, memory with N (and K N where it is said): of the N x N similarities a row is
computed when its token is chosen. Gains that differ by no more than rounding count as equal, and of
equal ones the earlier token is chosen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_prune.tokens.scores import BLOCK, without_autocast

#: relative difference of gains below which they are equal, and gain that is none, in float32
ROUNDING = 1e-5


def norms(tokens: Tensor) -> Tensor:
    """(N,) Euclidean norms of tokens (N, D), in blocks."""
    return torch.cat([part.float().norm(dim=-1) for part in tokens.split(BLOCK)])


class Cosines:
    """Cosine similarities of all tokens (N, D) with one or some of them, row by row; a token of
    zeros is like none, and like itself."""

    def __init__(self, tokens: Tensor):
        self.tokens, self.norms = tokens, norms(tokens).clamp_min(1e-12)

    def __call__(self, i: int | Tensor) -> Tensor:
        """(N,) with token i, or (N, M) with the tokens of i (M,)."""
        some = self.tokens[i].float() / self.norms[i].unsqueeze(-1)
        some = some if some.ndim == 1 else some.T
        # In blocks only where they are converted: one product takes a quarter of the time
        size = BLOCK if self.tokens.dtype != torch.float else max(1, len(self.tokens))
        parts = torch.cat([part.float() @ some for part in self.tokens.split(size)])
        return parts / (self.norms if some.ndim == 1 else self.norms[:, None])


def between_0_and_1(scores: Tensor) -> Tensor:
    """Finite scores (N,) from 0 for the least to 1 for the greatest; all 1 where they are equal."""
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else torch.ones_like(scores)


def _best(gains: Tensor) -> int:
    """The first of the greatest."""
    most = gains.max()
    return int((gains >= most - ROUNDING * most.abs()).to(torch.uint8).argmax())


@without_autocast
def most_diverse(tokens: Tensor, relevance: Tensor, keep: int) -> Tensor:
    """Greedy MAP inference of a determinantal point process on which relevance is conditioned.

        argmax_S det(L_S),  L = diag(r) C diag(r),  C_ij = cos(S_i, S_j)

    CDPruner (arXiv 2506.10967), by the incremental Cholesky factor of fast greedy MAP inference
    (arXiv 1709.05135). For a token the determinant grows by r_j^2 times what the chosen tokens
    leave of it, 1 - |c_j|^2 with c_j its row of the factor. Where they leave nothing (more tokens
    than dimensions), the more relevant come first.

    Args:
        tokens: (N, D).
        relevance: (N,) r, 0 or more.
        keep: K, 1 to N. Memory grows with K N.
    """
    cosines, left = Cosines(tokens), torch.ones_like(relevance, dtype=torch.float)
    factor = left.new_empty(keep, len(left))
    weight, open_ = relevance.float().square(), torch.ones_like(left, dtype=torch.bool)
    chosen: list[int] = []
    for k in range(keep):
        gains = torch.where(left > ROUNDING, weight * left, 0.0).masked_fill(~open_, -1.0)
        if not bool((gains > 0).any()):
            rest = weight.masked_fill(~open_, -1.0).argsort(descending=True, stable=True)
            chosen += rest[: keep - k].tolist()
            break
        i = _best(gains)
        chosen.append(i)
        open_[i] = False
        row = cosines(i) - factor[:k, i] @ factor[:k]
        factor[k] = row / left[i].sqrt()
        left = left - factor[k].square()
    return torch.tensor(chosen, device=tokens.device)


@without_autocast
def marginally_relevant(
    tokens: Tensor, importance: Tensor, keep: int, balance: float = 0.5
) -> Tensor:
    """Maximal marginal relevance: what is important, and unlike what was chosen.

        argmax_j  balance r_j - (1 - balance) max_{i chosen} cos(S_i, S_j)

    IDPruner (arXiv 2602.13315). For tokens (N, D), importance r (N,) in [0, 1], and K of 1 to N.
    """
    cosines = Cosines(tokens)
    likest = torch.zeros_like(cosines.norms)
    gains = balance * importance.float()
    chosen: list[int] = []
    closed = torch.zeros_like(likest, dtype=torch.bool)
    for k in range(keep):
        # shifted, for the nearly equal to be relative to numbers of about 1
        i = _best((gains - (1 - balance) * likest + 1.0).masked_fill(closed, -1.0))
        chosen.append(i)
        closed[i] = True
        row = cosines(i)
        likest = torch.maximum(likest, row) if k else row
    return torch.tensor(chosen, device=tokens.device)


@without_autocast
def far_apart(tokens: Tensor, keep: int, most_starts: int = 1024) -> Tensor:
    """Greedy max-min diversity: the token whose nearest chosen token is farthest.

        argmax_j  min_{i chosen} 1 - cos(S_i, S_j)

    DivPrune (arXiv 2503.02175), which begins with the token whose nearest other one is farthest.
    In recordings of more than `most_starts` tokens the others are that many, evenly spaced.
    For tokens (N, D) and K of 1 to N.
    """
    cosines, n = Cosines(tokens), len(tokens)
    number = min(n, most_starts)
    others = torch.arange(number, device=tokens.device) * n // number
    nearest = torch.full_like(cosines.norms, -torch.inf)
    for some in others.split(64):
        rows = cosines(some)
        rows[some, torch.arange(len(some), device=some.device)] = -torch.inf
        nearest = torch.maximum(nearest, rows.amax(1))
    chosen: list[int] = []
    closed = torch.zeros_like(nearest, dtype=torch.bool)
    for k in range(keep):
        i = _best((2.0 - nearest.clamp_min(-1.0)).masked_fill(closed, -1.0))
        chosen.append(i)
        closed[i] = True
        row = cosines(i)
        nearest = torch.maximum(nearest, row) if k else row
    return torch.tensor(chosen, device=tokens.device)
