"""Sparsity schedule: the target of each update, and the Lagrangian that holds it.

The expected sparsity is held at its target by an augmented Lagrangian

    L = L_task + lambda1 (s_hat - t) + lambda2 (s_hat - t)^2

minimised over weights and gates, maximised over lambda1 and lambda2 (Wang et al., 2020; used by
arXiv 2306.01385). s_hat is the expected sparsity in closed form, t the target of this update.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def ramped_target(target: float, update: int, ramp_updates: int) -> float:
    """The target after so many updates: linear from 0 to the final one, in [0, 1), then constant.

    Args:
        ramp_updates: updates until the final target is asked for; 0 asks at once.

    >>> [ramped_target(0.5, update, 100) for update in (0, 50, 100, 200)]
    [0.0, 0.25, 0.5, 0.5]
    """
    if not 0.0 <= target < 1.0:
        raise ValueError(f"target sparsity is {target}, but has to be in [0, 1)")
    if ramp_updates <= 0:
        return target
    return target * min(1.0, update / ramp_updates)


class Lagrangian(nn.Module):
    """The two multipliers. They ascend: give them to the optimiser with `maximize=True`."""

    def __init__(self) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.zeros(()))
        self.lambda2 = nn.Parameter(torch.zeros(()))

    def forward(self, sparsity: Tensor, target: float) -> Tensor:
        """lambda1 (s_hat - t) + lambda2 (s_hat - t)^2, a scalar."""
        gap = sparsity - target
        return self.lambda1 * gap + self.lambda2 * gap.square()
