"""Activation checkpointing of modules whose weights and gates are there for one forward pass only.

`torch.utils.checkpoint` calls a module again in the backward pass. By then `GatedEncoder` has put
the ungated weights back and taken the gates away, so that the second call would compute something
else. Here both are remembered with the activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


@contextmanager
def checkpointed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """While active, what `modules` compute inside is not kept, but computed again in the backward
    pass, with the same random numbers.

    Args:
        modules: none of them inside another one.
    """
    modules = list(modules)
    for module in modules:
        module.forward = partial(_call, module, module.forward)
    try:
        yield
    finally:
        for module in modules:
            del module.forward  # the one of the class is seen again


def _call(module: nn.Module, forward: Callable, *args: Any, **kwargs: Any) -> Any:
    holder = _Holder(module, forward)
    weights: dict[str, Tensor] = dict(holder.named_parameters())
    gates = [(part, part.gate) for part in module.modules() if hasattr(part, "gate")]

    def compute(*args: Any) -> Any:
        before = [(part, part.gate) for part, _ in gates]
        try:
            for part, gate in gates:
                part.gate = gate
            return functional_call(holder, weights, args, kwargs)
        finally:
            for part, gate in before:
                part.gate = gate

    return checkpoint(compute, *args, use_reentrant=False)


class _Holder(nn.Module):
    """Gives `functional_call` a module whose weights it can exchange, and the call to make."""

    def __init__(self, module: nn.Module, call: Callable):
        super().__init__()
        self.module = module
        self.call = call

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)
