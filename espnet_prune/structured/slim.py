"""Slimming: the physical removal of what hard masks drop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from espnet_prune.structured.restructure import Prunable

Model = TypeVar("Model", bound=Prunable)


def slim(encoder: Model, masks: Mapping[str, Tensor]) -> Model:
    """A smaller copy that computes exactly what `encoder` computes under hard `masks`.

    Args:
        encoder: dense or already slimmed.
        masks: site -> (units left,) of 0 and 1; sites that are absent are whole.
    Raises:
        ValueError: a mask for an unknown site, of another size, or not of 0 and 1.

    >>> import torch
    >>> from espnet_prune.structured import SpeechEncoder, SpeechEncoderConfig
    >>> base = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2}
    >>> encoder = SpeechEncoder(SpeechEncoderConfig("whisper", {**base, "encoder_ffn_dim": 64}))
    >>> small = slim(encoder, {"layers.0.ffn_dim": torch.arange(64) < 24})
    >>> small.num_parameters() - encoder.num_parameters()  # 40 rows, columns and biases
    -1320
    """
    plan = encoder.plan()
    for name, mask in masks.items():
        if name not in plan.sites:
            raise ValueError(f"mask for unknown site '{name}'")
        if mask.shape != (plan.size(name),) or not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError(f"mask of '{name}' has to be {plan.size(name)} values of 0 and 1")
    masks = plan.canonical(masks)
    small: Any = encoder.outline(plan.select(masks))
    wanted = small.backbone.state_dict()
    state = {
        name: plan.cut(name, value.detach(), masks).clone()
        for name, value in encoder.backbone.state_dict().items()
        if name in wanted
    }
    small.backbone.load_state_dict(state, strict=True, assign=True)
    frozen = {n for n, p in encoder.backbone.named_parameters() if not p.requires_grad}
    for name, parameter in small.backbone.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return small.train(encoder.training)
