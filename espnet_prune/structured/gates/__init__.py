"""L0 gates and sparsity control: pure torch, knows no model."""

from espnet_prune.structured.gates.hard_concrete import (
    HardConcrete,
    deterministic_gate,
    hard_concrete,
    prob_nonzero,
    stretched_concrete,
)
from espnet_prune.structured.gates.lagrangian import Lagrangian, ramped_target

__all__ = [
    "HardConcrete",
    "Lagrangian",
    "deterministic_gate",
    "hard_concrete",
    "prob_nonzero",
    "ramped_target",
    "stretched_concrete",
]
