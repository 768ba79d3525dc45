"""Distances between a hidden state of the student and one of the teacher.

Each is a mean over the valid frames of an utterance, and a batch's is the mean over its utterances
weighted by their frames: what the batch is made of, how it is padded and over how many processes
it is split does not matter. `l1` and `l2` are relative to the size of the teacher's state around
its mean frame: layers differ in scale by orders of magnitude, and unscaled the largest would be the
only one that is learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: least share of a state's energy that is taken for its variance: a single frame has none
_LEAST = 1e-4


def _relative(student: Tensor, teacher: Tensor, valid: Tensor, norm) -> Tensor:
    valid = valid[..., None].to(teacher.dtype)
    mean = (teacher * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp(min=1.0)
    error = (norm(student - teacher) * valid).sum((1, 2))
    scale = (norm(teacher - mean) * valid).sum((1, 2))
    energy = (norm(teacher) * valid).sum((1, 2))
    return error / torch.maximum(scale, _LEAST * energy).clamp(min=1e-8)


def relative_l1(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """sum |s - t| / sum |t - mean(t)| over the valid frames of each utterance.

    Args:
        student, teacher: (B, T, D).
        valid: (B, T) bool.
    Returns: (B,), as for the others.
    """
    return _relative(student, teacher, valid, torch.abs)


def relative_l2(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """sum (s - t)^2 / sum (t - mean(t))^2: the variance that is not explained."""
    return _relative(student, teacher, valid, torch.square)


def cosine(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """1 - cos(s, t), mean over the valid frames of each utterance."""
    similarity = F.cosine_similarity(student, teacher, dim=-1) * valid
    return 1.0 - similarity.sum(1) / valid.sum(1).clamp(min=1)


LOSSES = {"l1": relative_l1, "l2": relative_l2, "cosine": cosine}


def distillation_loss(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    layers: Sequence[int],
    weights: Mapping[str, float],
    frames: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of losses, mean over layers and over frames.

    Args:
        student, teacher: hidden states, each (B, T, D).
        layers: numbers of the hidden states to compare (0 is the input of the first layer).
        weights: name of a loss -> its weight.
        frames: (B, T) true for the frames that count.
    Returns: the loss, and every loss by itself (detached) under `distill_<name>`.
    """
    share = frames.sum(1) / frames.sum()
    total = torch.zeros((), device=frames.device)
    parts: dict[str, Tensor] = {}
    for layer in layers:
        s, t = student[layer].float(), teacher[layer].float()
        for name, weight in weights.items():
            value = (LOSSES[name](s, t, frames) * share).sum() / len(layers)
            total = total + weight * value
            key = f"distill_{name}"
            parts[key] = parts.get(key, 0.0) + value.detach()
    return total, parts
