"""Distances between a hidden state of the student and one of the teacher.

All are means over the valid frames of a batch, so that they do not depend on its padding. `l1`
and `l2` are relative to the size of the teacher's state around its mean frame: layers differ in
scale by orders of magnitude, and unscaled the largest would be the only one that is learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def relative_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """sum |s - t| / sum |t - mean(t)| over (N, D) frames."""
    scale = (teacher - teacher.mean(0)).abs().sum()
    return (student - teacher).abs().sum() / scale.clamp(min=1e-8)


def relative_l2(student: Tensor, teacher: Tensor) -> Tensor:
    """sum (s - t)^2 / sum (t - mean(t))^2 over (N, D) frames: the variance not explained."""
    scale = (teacher - teacher.mean(0)).square().sum()
    return (student - teacher).square().sum() / scale.clamp(min=1e-8)


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos(s, t), mean over (N, D) frames."""
    return 1.0 - F.cosine_similarity(student, teacher, dim=-1).mean()


LOSSES = {"l1": relative_l1, "l2": relative_l2, "cosine": cosine}


def distillation_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    layers: Sequence[int],
    weights: Mapping[str, float],
    frames: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of losses, mean over layers.

    Args:
        student, teacher: hidden states, each (B, T, D).
        layers: numbers of the hidden states to compare (0 is the input of the first layer).
        weights: name of a loss -> its weight.
        frames: (B, T) true for the frames that count.
    Returns: the loss, and every loss by itself (detached) under `distill_<name>`.
    """
    total = torch.zeros((), device=frames.device)
    parts: dict[str, Tensor] = {}
    for layer in layers:
        s, t = student[layer][frames].float(), teacher[layer][frames].float()
        for name, weight in weights.items():
            value = LOSSES[name](s, t) / len(layers)
            total = total + weight * value
            key = f"distill_{name}"
            parts[key] = parts.get(key, 0.0) + value.detach()
    return total, parts
