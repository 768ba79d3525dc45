"""Distances between a hidden state of the student and one of the teacher.

Each is a mean over the valid frames of an utterance, and a batch's is the mean over its utterances
weighted by their frames: what the batch is made of, how it is padded and over how many processes
it is split does not matter. `l1` and `l2` are relative to the size of the teacher's state around
its mean frame: layers differ in scale by orders of magnitude, and unscaled the largest would be the
only one that is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

#: least share of a state's energy that is taken for its variance: a single frame has none
_LEAST = 1e-4


def relative(
    student: Tensor, teacher: Tensor, valid: Tensor, norm: Callable[[Tensor], Tensor]
) -> Tensor:
    """sum |s - t| / sum |t - mean(t)| over the valid frames of each utterance, as `norm` measures.

    With squares it is the variance that is not explained.

    Args:
        student, teacher: (B, T, D).
        valid: (B, T) bool.
    Returns: (B,), as for `cosine`.
    """
    valid = valid[..., None].to(teacher.dtype)
    mean = (teacher * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp(min=1.0)
    error = (norm(student - teacher) * valid).sum((1, 2))
    scale = (norm(teacher - mean) * valid).sum((1, 2))
    energy = (norm(teacher) * valid).sum((1, 2))
    return error / torch.maximum(scale, _LEAST * energy).clamp(min=1e-8)


def cosine(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """1 - cos(s, t), mean over the valid frames of each utterance."""
    similarity = F.cosine_similarity(student, teacher, dim=-1) * valid
    return 1.0 - similarity.sum(1) / valid.sum(1).clamp(min=1)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "l1": partial(relative, norm=torch.abs),
    "l2": partial(relative, norm=torch.square),
    "cosine": cosine,
}
#: weights of the losses unless asked otherwise
DEFAULT = {"l2": 1.0, "cosine": 1.0}


class DistillationLoss:
    """Weighted sum of losses, mean over layers and over frames, one layer after another.

    A student shows its hidden states as they come (it is a `watch` of `SpeechEncoder.forward`).
    Each one's loss is taken at once, with its gradient, and the teacher's state is let go: for the
    backward pass there is one (B, T, D) for each layer, not what a graph of the losses would keep
    (the differences, their powers, the norms and the products of the cosine, for each loss).

    Args:
        teacher: number of a hidden state -> (B, T, D), for the states to compare; empty at the end.
        weights: name of a loss -> its weight.
        frames: (B, T) true for the frames that count.

    Attributes:
        total: the loss of the layers that were shown so far.
        parts: every loss by itself (detached) under `distill_<name>`.
    """

    def __init__(self, teacher: dict[int, Tensor], weights: Mapping[str, float], frames: Tensor):
        self.teacher, self.weights, self.frames = teacher, weights, frames
        self.share = frames.sum(1) / (frames.sum() * len(teacher))
        self.total = torch.zeros((), device=frames.device)
        self.parts = {f"distill_{name}": self.total for name in weights}

    def __call__(self, number: int, student: Tensor) -> None:
        """Take the student's hidden state of this number, (B, T, D), into account."""
        if number not in self.teacher:
            return
        teacher = self.teacher.pop(number)
        loss, *values = _WithGradient.apply(student.float(), teacher.float(), self._weighted)
        self.total = self.total + loss
        for name, value in zip(self.parts, values, strict=True):
            self.parts[name] = self.parts[name] + value

    def _weighted(self, student: Tensor, teacher: Tensor) -> list[Tensor]:
        """The sum, and its summands without their weights."""
        values = [
            (LOSSES[name](student, teacher, self.frames) * self.share).sum()
            for name in self.weights
        ]
        total = sum(w * v for w, v in zip(self.weights.values(), values, strict=True))
        return [torch.as_tensor(total), *values]


class _WithGradient(torch.autograd.Function):
    """`losses(student, teacher)`, of which the first is differentiated already in the forward
    pass: its gradient is all that is kept."""

    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, losses: Callable[[Tensor, Tensor], list[Tensor]]
    ) -> tuple[Tensor, ...]:
        needed = ctx.needs_input_grad[0]
        with torch.set_grad_enabled(needed):
            student = student.detach().requires_grad_(needed)
            loss, *values = losses(student, teacher)
            if needed:
                ctx.save_for_backward(*torch.autograd.grad(loss, student))
        values = [value.detach() for value in values]
        ctx.mark_non_differentiable(*values)
        return loss.detach(), *values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        (of_student,) = ctx.saved_tensors
        return of_student * gradient, None, None
