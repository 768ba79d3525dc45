"""Layer-to-layer distillation of a (gated or slimmed) student from its dense teacher."""

from espnet_prune.structured.distill.losses import LOSSES, DistillationLoss
from espnet_prune.structured.distill.model import DistillModel, PruningConf

__all__ = ["LOSSES", "DistillModel", "DistillationLoss", "PruningConf"]
