"""Layouts of pruned attention that hardware and other engines like.

- `free`: every head has its own sizes, the most accurate at a number of parameters.
- `equal`: all heads that are left in a layer have one query-key size and one value size, so that
  attention is one call of a fused kernel.
- `stock`: all heads and layers stay, and in a layer queries, keys and values have one size. So do
  the matrices of unmodified engines such as CTranslate2, which read the sizes off the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from espnet_prune.structured.plan import Plan
from espnet_prune.structured.restructure import Prunable

LAYOUTS = ("free", "equal", "stock")
#: kinds of sites that no unit is taken of in the layout `stock`, beside those of heads
WHOLE = ("mha", "head", "ffn", "pos_conv")


def check_layout(layout: str) -> None:
    """
    Raises:
        ValueError: no such layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}, choose from {', '.join(LAYOUTS)}")


def plan_for(encoder: Prunable, layout: str, protected: Iterable[str] = ()) -> Plan:
    """The plan of a model, with what stays whole in a layout protected, too.

    Raises:
        ValueError: no such layout, or no such site.
    """
    check_layout(layout)
    protected = tuple(protected)
    plan = encoder.plan(protected=protected)
    if layout != "stock":
        return plan
    kinds = (kind for kind in WHOLE if kind in plan.kinds)
    return encoder.plan(protected=(*protected, *kinds))


def attentions(plan: Plan) -> Iterator[dict[str, str]]:
    """Of each attention with heads left its sites: {"mha", "heads", "qk", "vo"} -> name."""
    for binding in plan.declaration.bindings:
        if {"mha", "heads", "qk", "vo"} <= set(binding.sites) and plan.kept[binding.sites["heads"]]:
            yield binding.sites


def level(
    plan: Plan,
    masks: Mapping[str, Tensor],
    scores: Mapping[str, Tensor],
    layout: str,
    round_to: int = 1,
) -> dict[str, Tensor]:
    """The masks nearest to `masks` that are of a layout; heads get the mean of their sizes.

    Args:
        masks, scores: site -> (size,) of 0 and 1, and what decides which units stay.
        round_to: sizes are multiples of it, or whole.
    """
    masks = dict(masks)
    if layout == "free":
        return masks
    whole = plan.canonical(masks)
    for sites in attentions(plan):
        heads = whole[sites["heads"]].nonzero().squeeze(1).tolist()
        names = [sites["qk"], sites["vo"]]
        means = [float(whole[name].sum()) / max(len(heads), 1) for name in names]
        if layout == "stock":
            means = [sum(means) / 2] * 2
        for name, mean in zip(names, means, strict=True):
            if name not in masks or not heads:
                continue
            groups = plan.groups(name).to(masks[name].device)
            units = [(groups == head).nonzero().squeeze(1) for head in heads]
            number = max(1, round(mean / round_to)) * round_to
            number = min(number, *map(len, units))
            mask = torch.zeros_like(masks[name])
            for own in units:
                mask[own[scores[name][own].topk(number).indices]] = 1
            masks[name] = mask
    return masks
