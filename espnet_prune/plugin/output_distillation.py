"""Gates and weights of one of ESPnet's encoders, learned against the dense one's output."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from espnet_prune.plugin.espnet_encoder import EspnetEncoder
from espnet_prune.structured import GatedEncoder
from espnet_prune.structured.distill import PruningConf
from espnet_prune.structured.distill.losses import DEFAULT, DistillationLoss
from espnet_prune.structured.distill.model import optimizer_groups
from espnet_prune.structured.one_shot import prune_one_shot
from espnet_prune.structured.prune_and_distil import (
    check_options,
    distil,
    endless,
    gates_for,
    learn_gates,
    seeded,
)
from espnet_prune.structured.sparsity_schedule import Lagrangian, ramped_target


class OutputDistillation(nn.Module):
    """Keeps the output, which CTC and the decoder read, close to the dense encoder's.

        L = L_distill + lambda1 (s_hat - t) + lambda2 (s_hat - t)^2

    Dropout is off and batch norms keep their statistics. The dense encoder is not a submodule.

    Args:
        teacher: dense encoder.
        student: encoder to train.
        pruning: how gates are learned; None distils only.
        seed: of the gates' initial noise.
    """

    def __init__(
        self,
        teacher: EspnetEncoder,
        student: EspnetEncoder,
        pruning: PruningConf | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self._teacher = [teacher.eval()]
        self.pruning, self.updates, self.history = pruning, 0, []
        self.student: nn.Module = student
        if pruning is not None:
            options = {"init": pruning.init, "layout": pruning.layout, "cost": pruning.load_cost()}
            self.student = GatedEncoder(student, seed=seed, **options)
            self.lagrangian = Lagrangian()

    @property
    def encoder(self) -> EspnetEncoder:
        """The student without its gates."""
        return self.student.encoder if self.pruning is not None else self.student

    @property
    def gated(self) -> GatedEncoder:
        """The student with its gates, where there is pruning."""
        assert isinstance(self.student, GatedEncoder)
        return self.student

    def train(self, mode: bool = True) -> OutputDistillation:
        """Gates are drawn in training; the encoder stays as it infers."""
        super().train(mode)
        self.encoder.eval()
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What `optimizer_groups` makes of the weights."""
        return optimizer_groups(self)

    def forward(
        self, features: Tensor, lengths: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss, statistics and number of frames of features (B, T, D) of lengths (B,)."""
        with torch.no_grad():
            wanted = self._teacher[0](features, lengths)
        frames = torch.arange(wanted.last_hidden_state.shape[1], device=features.device)
        spoken = frames[None] < wanted.lengths[:, None]
        losses = DistillationLoss({0: wanted.last_hidden_state}, DEFAULT, spoken)
        losses(0, self.student(features, lengths).last_hidden_state)
        loss, stats = losses.total, {"distill": losses.total.detach()}
        if self.pruning is not None:
            target = ramped_target(self.pruning.target, self.updates, self.pruning.ramp_updates)
            expected = self.gated.expected_sparsity()
            loss = loss + self.lagrangian(expected, target)
            stats["sparsity_expected"] = expected.detach()
        return loss, stats, spoken.sum()


def prune_by_output(
    encoder: EspnetEncoder,
    features: Sequence[Tensor],
    target: float,
    cost: str,
    method: str,
    updates: int,
    distill_updates: int | None,
    seed: int,
    layout: str,
) -> tuple[EspnetEncoder, dict[str, Any]]:
    """The encoder without what the method drops, and its sparsities; as `prune_encoder`.

    Args:
        features: (T, D) each, what the encoder reads.
    Raises:
        ValueError: a target that cannot be reached, or an option out of its range.
    """
    distill_updates = check_options(encoder, target, cost, updates, distill_updates, method, layout)
    batches = endless(features, seed)
    with seeded(encoder.device, seed):
        if method == "one_shot":
            small, summary = prune_one_shot(
                encoder, features, target, cost, seed=seed, layout=layout
            )
        else:
            gates = gates_for(target, cost, updates, layout)
            model = OutputDistillation(encoder, copy.deepcopy(encoder), gates, seed)
            small, summary = learn_gates(model, batches, updates)
        if distill_updates:
            distil(OutputDistillation(encoder, small), batches, distill_updates, method)
    return small, {**summary, "distill_updates": distill_updates}
