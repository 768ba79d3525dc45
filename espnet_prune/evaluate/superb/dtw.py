"""Subsequence dynamic time warping: where in a document does a query sound best?

As SUPERB's query-by-example task has it (s3prl, downstream/quesst14_dtw/dtw_utils.py, with the
package dtw-python): local cost exp(cosine distance) - 1, for each frame of the query scaled to
[0, 1] over the document; step pattern "asymmetric" with both ends of the document open,

    D(i, j) = d(i, j) + min(D(i-1, j), D(i-1, j-1), D(i-1, j-2)),    D(1, j) = d(1, j),

so that each frame of the query counts once; the score is -min_j D(N, j) / N.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

#: Queries with fewer frames are not searched for, as in s3prl.
SHORTEST_QUERY = 5
_TINY = 1e-9


def local_costs(queries: Tensor, document: Tensor) -> Tensor:
    """Costs (Q, N, M) in [0, 1] of frames (Q, N, D) of queries and (M, D) of a document."""
    queries = functional.normalize(queries, dim=-1, eps=_TINY)
    document = functional.normalize(document, dim=-1, eps=_TINY)
    costs = torch.expm1(1 - queries @ document.T)
    least, most = torch.aminmax(costs, dim=-1, keepdim=True)
    return (costs - least) / (most - least).clamp(min=_TINY)


def subsequence_costs(costs: Tensor, lengths: Tensor) -> Tensor:
    """Cost of the best match of each query, per frame of the query.

    All steps go on by one frame of the query, so one row of D needs only the row before: the
    documents' frames, and the queries, are done at once.

    Args:
        costs: (Q, N, M) local costs; rows beyond the lengths are not read.
        lengths: (Q,) frames of the queries, at least 1.
    Returns: (Q,).
    """
    best = costs.new_empty(len(costs))
    total = torch.zeros_like(costs[:, 0])  # before the first frame all places cost the same
    for frame, own in enumerate(costs.unbind(dim=1), 1):
        before = functional.pad(total, (2, 0), value=torch.inf)
        total = own + torch.minimum(torch.minimum(total, before[:, 1:-1]), before[:, :-2])
        ends = lengths == frame
        best[ends] = total[ends].amin(dim=1)
    return best / lengths


class Queries:
    """Queries of one layer, to be searched for in many documents.

    Args:
        frames: for each query, (N, D) frames; N may be 0.
        mean, std: (D,), to normalise all frames by.
    """

    def __init__(self, frames: Sequence[Tensor], mean: Tensor, std: Tensor):
        self.mean, self.std = mean, std.clamp(min=_TINY)
        self.searched = [len(query) >= SHORTEST_QUERY for query in frames]
        kept = [self._normalise(query) for query in itertools.compress(frames, self.searched)]
        self.lengths = torch.tensor(list(map(len, kept)), device=mean.device)
        self.frames = pad_sequence(kept, batch_first=True) if kept else None

    def _normalise(self, frames: Tensor) -> Tensor:
        return (frames - self.mean) / self.std

    def scores(self, document: Tensor) -> Tensor:
        """Scores (Q,) of the queries in a document of (M, D) frames; 0 for those too short."""
        found = document.new_zeros(len(self.searched))
        if self.frames is not None:
            costs = local_costs(self.frames, self._normalise(document))
            found[torch.tensor(self.searched)] = -subsequence_costs(costs, self.lengths)
        return found


def normalise_scores(scores: Tensor) -> Tensor:
    """Scores (Q, documents) at zero mean and unit variance for each query, as in s3prl.

    So one threshold serves queries of all lengths. A query with equal scores gets zeros.
    """
    deviation = scores - scores.mean(dim=1, keepdim=True)
    return deviation / scores.std(dim=1, keepdim=True, correction=0).clamp(min=_TINY)
