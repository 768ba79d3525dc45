"""Gates trained without data: each unit has a random worth, and the Lagrangian wants its share."""

import torch

from espnet_prune.structured import GatedEncoder
from espnet_prune.structured.gates import prob_nonzero
from espnet_prune.structured.sparsity_schedule import Lagrangian, ramped_target


def train_gates(gated: GatedEncoder, target: float, updates: int, ramp: int) -> None:
    """Train the gates in place, the target growing for `ramp` of the updates."""
    lagrangian, generator = Lagrangian(), torch.Generator().manual_seed(0)
    # What the units are worth to a task, which pulls the gates apart
    worth = {n: torch.rand(len(a), generator=generator) for n, a in gated.log_alphas().items()}
    optimizer = torch.optim.AdamW(
        [
            {"params": list(gated.gates.parameters())},
            {"params": list(lagrangian.parameters()), "maximize": True},
        ],
        lr=0.1,
        weight_decay=0.0,
    )
    for update in range(updates):
        opened = {n.replace("/", "."): prob_nonzero(g.log_alpha) for n, g in gated.gates.items()}
        loss = -sum((worth[n] * p).mean() for n, p in opened.items()) / len(worth)
        loss = loss + lagrangian(gated.expected_sparsity(), ramped_target(target, update, ramp))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
