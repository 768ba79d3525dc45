"""Both halves of a speech LLM: its audio encoder, pruned by `espnet_prune.structured`, put back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from espnet_prune.structured import SpeechEncoder, load_encoder


def put_encoder(model: nn.Module, encoder: SpeechEncoder | str | Path) -> Callable[[], None]:
    """Put a pruned (or dense) encoder in the place of that of a speech LLM of `transformers`, on
    its device and in its dtype.

    Args:
        model: with an audio encoder of the family of `encoder`, such as that of Qwen2-Audio or
            Voxtral; changed in place.
        encoder: the encoder, which becomes a part of the model, or its directory.
    Returns: what puts back the encoder that was there, when called.
    Raises:
        FileNotFoundError, ValueError: as `load_encoder`; or the model has no such encoder, or one
            of other sizes.
    """
    if not isinstance(encoder, SpeechEncoder):
        encoder = load_encoder(encoder)
    family, kind = encoder.family_of, type(model).__name__
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is family.model_class
    ]
    if len(places) != 1:
        raise ValueError(
            f"{kind} has {len(places)} encoders of the family {family.name}, but one is replaced: "
            "prune the encoder of this model"
        )
    parent, name, before = places[0]
    config: Any = before.config
    for size in family.size_names:
        own, theirs = getattr(encoder.backbone.config, size, None), getattr(config, size, None)
        if own != theirs:
            raise ValueError(
                f"{size} of the encoder is {own}, of that of {kind} {theirs}: prune the encoder of "
                "this model"
            )
    weight = next(before.parameters())
    setattr(parent, name, encoder.backbone.to(weight.device, weight.dtype).eval())
    return partial(setattr, parent, name, before)
