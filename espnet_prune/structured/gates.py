"""L0 gates: pure torch, knows no model.

Hard concrete gates (Louizos et al., 2018), straight-through estimator (arXiv 2306.01385).

    u ~ U(0, 1)
    s     = sigmoid((log u - log(1 - u) + log_alpha) / beta)
    s_bar = s (zeta - gamma) + gamma
    z     = min(1, max(0, s_bar))

z is exactly 0 or 1 with positive probability, and P(z != 0) has the closed form that makes the
expected L0 norm differentiable. The clamp has no gradient outside (0, 1); the straight-through
estimator (STE) takes dz/ds_bar = 1 there, so that a gate that is fully open or fully closed can
still be moved by the task loss.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

GAMMA = -0.1
ZETA = 1.1
BETA = 2.0 / 3.0


def stretched_concrete(log_alpha: Tensor, u: Tensor) -> Tensor:
    """s_bar, the stretched concrete sample before the clamp, elementwise.

    Args:
        log_alpha: location of each gate, any shape.
        u: uniform noise strictly inside (0, 1), same shape.
    """
    s = torch.sigmoid((torch.log(u) - torch.log1p(-u) + log_alpha) / BETA)
    return s * (ZETA - GAMMA) + GAMMA


def hard_concrete(log_alpha: Tensor, u: Tensor, ste: bool = True) -> Tensor:
    """z in [0, 1]; with `ste` the gradient passes the clamp as if it were the identity."""
    s_bar = stretched_concrete(log_alpha, u)
    z = s_bar.clamp(0.0, 1.0)
    return s_bar + (z - s_bar).detach() if ste else z


def prob_nonzero(log_alpha: Tensor) -> Tensor:
    """P(z != 0) = sigmoid(log_alpha - beta log(-gamma / zeta)), the expected L0 norm of a gate."""
    return torch.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))


def deterministic_gate(log_alpha: Tensor) -> Tensor:
    """The noise-free gate min(1, max(0, sigmoid(log_alpha)(zeta - gamma) + gamma)), in [0, 1]."""
    return (torch.sigmoid(log_alpha) * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)


class HardConcrete(nn.Module):
    """A vector of `size` hard concrete gates with one learned `log_alpha` each.

    Args:
        init: initial log_alpha. A small normal noise of 0.01 breaks ties between equal units.
        ste: as for `hard_concrete`.
        generator: source of the initial noise, for determinism.

    >>> gates = HardConcrete(4, init=0.0, generator=torch.Generator().manual_seed(0)).eval()
    >>> [round(z, 1) for z in gates().tolist()]  # without noise; in training it is drawn anew
    [0.5, 0.5, 0.5, 0.5]
    """

    def __init__(
        self,
        size: int,
        init: float = 3.0,
        ste: bool = True,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        noise = torch.randn(size, generator=generator) * 0.01
        self.log_alpha = nn.Parameter(torch.full((size,), float(init)) + noise)
        self.ste = ste

    def forward(self) -> Tensor:
        """(size,) one random draw of z, shared by the whole batch; noise-free in eval mode."""
        if not self.training:
            return deterministic_gate(self.log_alpha)
        # The bounds keep log(u) and log(1 - u) finite in float32.
        u = torch.empty_like(self.log_alpha).uniform_(1e-6, 1.0 - 1e-6)
        return hard_concrete(self.log_alpha, u, self.ste)
