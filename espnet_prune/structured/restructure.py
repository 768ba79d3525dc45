"""A dense model brought into the shapes of what is left of it, and what such models have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from torch import nn

from espnet_prune.structured.families.layers import resize
from espnet_prune.structured.plan import Kept, Plan


class Prunable(Protocol):
    """A module that gating, slimming and one-shot pruning take: `SpeechEncoder`, or one of another
    library's encoders.

    Attributes:
        backbone: the module whose parameters the plan names.
    """

    backbone: Any
    training: bool

    def plan(self, seconds: float | None = None, protected: Iterable[str] = ()) -> Plan:
        """What can be pruned in this model as it is now."""

    def outline(self, kept: Kept) -> Any:
        """A model of the same base of which `kept` is left; its weights are to be set."""


def restructure(backbone: nn.Module, plan: Plan) -> None:
    """Bring a freshly built dense backbone into the shapes of a plan; weights are empty then."""

    def replace(name: str, new: nn.Module | nn.Parameter) -> None:
        owner, _, attribute = name.rpartition(".")
        setattr(backbone.get_submodule(owner), attribute, new)

    for name, parameter in list(backbone.named_parameters()):
        fresh = parameter.new_empty(plan.shape(name))
        if fresh.shape != parameter.shape:
            replace(name, nn.Parameter(fresh, parameter.requires_grad))
    for name in plan.declaration.buffers:
        owner, _, attribute = name.rpartition(".")
        module = backbone.get_submodule(owner)
        setattr(module, attribute, getattr(module, attribute).new_empty(plan.shape(name)))
    for module in backbone.modules():
        resize(module)
    for removal in plan.declaration.removals:
        if not plan.kept[removal.site]:
            replace(removal.module, removal.replacement())
    for binding in plan.declaration.bindings:
        kept = {role: plan.kept[site] for role, site in binding.sites.items()}
        bound: Any = backbone.get_submodule(binding.module)
        bound.restructure(**kept)
