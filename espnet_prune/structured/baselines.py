"""Baselines of pruning: units dropped at random, and a student of the same sizes from scratch."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from espnet_prune.structured.encoder import SpeechEncoder, SpeechEncoderConfig
from espnet_prune.structured.gated_encoder import GatedEncoder
from espnet_prune.structured.plan import Cost
from espnet_prune.structured.slim import slim


def prune_at_random(
    encoder: SpeechEncoder,
    target: float,
    cost: Cost = "parameters",
    protected: Iterable[str] = (),
    seed: int = 0,
    round_to: int = 1,
    layout: str = "free",
) -> tuple[SpeechEncoder, float]:
    """A slimmed copy with about the same share of every layer left, and its exact sparsity.

    Units inside heads and feed-forward layers and CNN channels are dropped uniformly at random;
    whole heads and sub-layers are not, which would only weaken the baseline.

    Raises:
        ValueError: the target cannot be reached in this way.
    """
    protected = (*protected, *encoder.plan().coarse())
    gated = GatedEncoder(encoder, protected, cost=cost, round_to=round_to, layout=layout)
    gated.plan.check_target(target, cost)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for alpha in gated.log_alphas().values():
            alpha.copy_(torch.rand(len(alpha), generator=generator))
    masks = gated.hard_masks(target)
    return slim(encoder, masks), gated.exact_sparsity(masks)


def from_scratch(like: SpeechEncoder, seed: int = 0) -> SpeechEncoder:
    """An encoder of the same structure with random weights.

    Weights are drawn for the dense model as its family initialises it, and cut to the sizes. What
    is not trained (Whisper's sinusoidal positions) is copied.

    Args:
        like: pruned or dense; it is not changed.
        seed: of the weights; the generator of torch is left as it was.
    """
    old = like.config
    config = SpeechEncoderConfig(old.family, old.base, do_normalize=old.do_normalize)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dense = SpeechEncoder(config)
    student = slim(dense, like.plan().masks())
    given = dict(like.backbone.named_parameters())
    with torch.no_grad():
        for name, parameter in student.backbone.named_parameters():
            if not parameter.requires_grad:
                parameter.copy_(given[name])
    return student.eval()
