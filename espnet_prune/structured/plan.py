"""The declaration of one model and what is left of it: masks, parents, exact and expected cost.

One formula serves both counts: with kept-probabilities it gives the expectation (the gates are
independent), with masks of 0 and 1 the exact number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import compress

import torch
from torch import Tensor

from espnet_prune.structured.families import COARSE, Declaration, Site

#: how far from the target a sparsity may be
NEAR = 0.01
#: What is left of a model: site -> numbers of the kept units, in units of the base architecture.
Kept = dict[str, tuple[int, ...]]
#: What a model costs: "parameters", "macs", or a function of its plan and its units.
Cost = str | Callable[["Plan", Mapping[str, Tensor]], Tensor]


class Plan:
    """The prunable sites of one (dense or already slimmed) model.

    Args:
        declaration: of the base architecture.
        shapes: base shape of every parameter.
        kept: what is left; sites not named are whole.
        protected: kinds or names of sites that keep all their units.
    """

    def __init__(
        self,
        declaration: Declaration,
        shapes: Mapping[str, tuple[int, ...]],
        kept: Kept | None = None,
        protected: Iterable[str] = (),
    ):
        self.declaration = declaration
        self.sites: dict[str, Site] = declaration.sites
        unknown = set(declaration.tensors) - set(shapes)
        if unknown:
            raise ValueError(f"declared, but not in the model: {', '.join(sorted(unknown))}")
        left: Mapping = kept or {}
        self.kept: Kept = {n: tuple(left.get(n, range(s.size))) for n, s in self.sites.items()}
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.protected = self._check_names(tuple(protected))
        self._parent_index = {
            (name, parent): self._find_parents(name, parent)
            for name, site in self.sites.items()
            for parent in site.parents
        }

    def _check_names(self, names: tuple[str, ...]) -> frozenset[str]:
        kinds = self.kinds
        for name in names:
            if name not in kinds and name not in self.sites:
                raise ValueError(
                    f"unknown site '{name}': give a kind ({', '.join(sorted(kinds))}) or a name "
                    f"such as '{next(iter(self.sites))}'"
                )
        return frozenset(names)

    def _find_parents(self, name: str, parent: str) -> Tensor:
        """For every kept unit of a site the position of its unit among the parent's kept ones."""
        share = self.sites[name].size // self.sites[parent].size
        position = {unit: i for i, unit in enumerate(self.kept[parent])}
        return torch.tensor([position[unit // share] for unit in self.kept[name]], dtype=torch.long)

    # -- sites that may still be pruned ------------------------------------------------------------

    def prunable(self) -> list[str]:
        """Names of the sites with units left and not protected, in order of declaration."""
        free = [s.name for s in self.sites.values() if not self.protected & {s.name, s.kind}]
        return [name for name in free if self.kept[name]]

    @property
    def kinds(self) -> set[str]:
        """The kinds of sites that the model has."""
        return {site.kind for site in self.sites.values()}

    def coarse(self) -> tuple[str, ...]:
        """Those of which a unit is large."""
        return tuple(kind for kind in COARSE if kind in self.kinds)

    def check_target(self, target: float, cost: Cost) -> None:
        """
        Args:
            target: share of the cost to remove.
            cost: see `Plan.cost`.
        Raises:
            ValueError: the target is out of its range; what may not be pruned, or is too coarse,
                keeps pruning more than `NEAR` away from it; or a name protects nothing.
        """
        if not 0.0 <= target < 1.0:
            raise ValueError(f"target sparsity is {target}, but has to be in [0, 1)")
        for name in sorted(self.protected - {*COARSE}):
            if not any(self.kept[s.name] for s in self.sites.values() if name in (s.name, s.kind)):
                raise ValueError(f"protected: '{name}' has no units left that could be protected")
        dense = float(self.cost(cost))
        sites = self.prunable()

        def removed(masks: Mapping[str, Tensor]) -> float:
            return 1.0 - float(self.cost(cost, self.canonical(masks))) / dense

        most = removed({name: torch.zeros(self.size(name)) for name in sites})
        if target > most + NEAR:
            text = "protect fewer sites, or remove less"
            raise ValueError(
                f"target {target:g} cannot be reached, at most {most:.4f} of the cost can be "
                f"removed: {text}"
            )
        if target > NEAR and all(self.sites[name].kind in COARSE for name in sites):
            # Of whole heads and sub-layers the smallest may be too much
            least = min(
                removed({name: torch.arange(self.size(name)).bool().float()}) for name in sites
            )
            if least > target + NEAR:
                raise ValueError(
                    f"target {target:g} cannot be reached, the smallest part that can be removed "
                    f"is {least:.4f} of the cost: protect fewer sites, or remove more"
                )

    def takes_along(self) -> list[tuple[str, str]]:
        """(protected kind, other kind): its units still go when those of the other kind go."""
        free = set(self.prunable())
        pairs: dict[tuple[str, str], None] = {}
        for site in self.sites.values():
            for parent in map(self.sites.__getitem__, site.parents):
                if site.name not in free and parent.name in free and self.kept[site.name]:
                    pairs[site.kind, parent.kind] = None
            first = site.parents[0] if site.vital else None
            if first and site.name in free and first not in free:
                pairs[self.sites[first].kind, site.kind] = None
        return list(pairs)

    def groups(self, name: str) -> Tensor:
        """(size,) number of the group that each unit of a site belongs to: its head, if it has."""
        parents = self.sites[name].parents
        if not parents:
            return torch.zeros(self.size(name), dtype=torch.long)
        return self._parent_index[name, parents[0]]

    def size(self, name: str) -> int:
        """Number of units that a site has left."""
        return len(self.kept[name])

    def masks(self) -> dict[str, Tensor]:
        """For every site 1 where a unit of the base architecture is kept, else 0, (size,)."""
        return {
            name: torch.zeros(site.size).index_fill(0, torch.tensor(self.kept[name]).long(), 1.0)
            for name, site in self.sites.items()
        }

    # -- composition of a site's own units with its parents' ---------------------------------------

    def effective(self, units: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Multiply every site's units by those of its parents.

        Args:
            units: site -> (size,) probabilities, gates or masks; sites that are absent are whole.
        """
        device = next((unit.device for unit in units.values()), None)
        return {name: self._composed(name, units, device) for name in self.sites}

    def _composed(
        self, name: str, units: Mapping[str, Tensor], device: torch.device | None
    ) -> Tensor:
        """One site of `effective`."""
        own = units.get(name)
        if own is None:
            own = torch.ones(self.size(name), device=device)
        for parent in self.sites[name].parents:
            if parent in units:
                own = own * units[parent][self._parent_index[name, parent].to(own.device)]
        return own

    def canonical(self, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Hard masks with all consequences drawn: children of dropped parents are dropped, a head
        without value dimensions is dropped, a site's minimum is kept.

        Args:
            masks: site -> (size,) of 0 and 1; absent sites are whole.
        """
        masks = {name: mask.clone() for name, mask in masks.items()}
        device = next((mask.device for mask in masks.values()), None)
        for name in masks:
            site = self.sites[name]
            if masks[name].sum() < site.at_least:
                masks[name][: site.at_least] = 1
        for name, site in self.sites.items():
            if not site.vital:
                continue
            parent = site.parents[0]
            above = self._composed(parent, masks, device)
            index = self._parent_index[name, parent].to(above.device)
            units = self._composed(name, masks, device).to(above.dtype)
            masks[parent] = above * (torch.zeros_like(above).index_add(0, index, units) > 0)
        return self.effective(masks)

    def select(self, masks: Mapping[str, Tensor]) -> Kept:
        """What is left after canonical `masks`, in units of the base architecture."""
        return {name: tuple(compress(self.kept[name], masks[name].tolist())) for name in self.sites}

    # -- cost --------------------------------------------------------------------------------------

    def parameters(self, units: Mapping[str, Tensor] | None = None) -> Tensor:
        """Expected or exact number of parameters, a differentiable scalar (float64)."""
        whole = self.effective(units or {})
        counts = [self._elements(name, whole) for name in self._shapes]
        return sum(counts, torch.zeros((), dtype=torch.double))

    def macs(self, units: Mapping[str, Tensor] | None = None) -> Tensor:
        """Expected or exact multiply-accumulates per second of audio (float64)."""
        whole = self.effective(units or {})
        total = torch.zeros((), dtype=torch.double)
        for tensor in self.declaration.tensors.values():
            if tensor.rate:
                total = total + tensor.rate * self._elements(tensor.name, whole)
        for name, site in self.sites.items():
            if site.macs_per_unit:
                total = total + site.macs_per_unit * whole[name].double().sum()
        return total

    def _elements(self, name: str, whole: Mapping[str, Tensor]) -> Tensor:
        """Number of elements of a tensor that are left, product of its dimensions."""
        count: Tensor | float = 1.0
        cuts = self._cuts(name)
        for dim, length in enumerate(self._shapes[name]):
            parts = [whole[site].double().sum() * width for site, width in cuts.get(dim, ())]
            count = count * (sum(parts[1:], parts[0]) if parts else length)
        return torch.as_tensor(count, dtype=torch.double)

    def cost(self, kind: Cost, units: Mapping[str, Tensor] | None = None) -> Tensor:
        """`parameters` or `macs` by name, or what a function such as a `LatencyTable` says."""
        if callable(kind):
            return kind(self, units or {})
        if kind not in ("parameters", "macs"):
            raise ValueError(f"unknown cost '{kind}', choose from parameters, macs")
        return getattr(self, kind)(units)

    def prices(self, kind: Cost) -> dict[str, float]:
        """site -> what a unit of it costs, the mean of all, while everything else is there. A unit
        has the price of its children in it."""
        whole = {
            name: torch.ones(self.size(name), dtype=torch.double, requires_grad=True)
            for name in self.prunable()
        }
        self.cost(kind, whole).backward()
        return {
            name: 0.0 if units.grad is None else float(units.grad.mean())
            for name, units in whole.items()
        }

    @cached_property
    def fingerprint(self) -> str:
        """Of the base architecture, whatever is left of it: equal for models that take as long.

        Parameters that are not declared are no part of it, e.g. the embedding of masked frames,
        which a forward pass may lack.
        """
        tensors = self.declaration.tensors.values()
        facts = [
            sorted((t.name, self._shapes[t.name], t.rate) for t in tensors),
            sorted((site.name, site.size) for site in self.sites.values()),
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    # -- cutting -----------------------------------------------------------------------------------

    def _cuts(self, name: str) -> dict[int, list[tuple[str, int]]]:
        """dimension of a parameter or buffer -> for each of its parts the site that cuts it, and
        the entries of each unit."""
        if name in self.declaration.buffers:
            return {0: [(self.declaration.buffers[name], 1)]}
        tensor, shape = self.declaration.tensors.get(name), self._shapes.get(name, ())
        found = {}
        for dim, cut in (tensor.cuts if tensor else {}).items():
            sites = (cut,) if isinstance(cut, str) else cut
            length = shape[dim] // len(sites)
            found[dim] = [(site, length // self.sites[site].size) for site in sites]
        return found

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a parameter, or of a declared buffer, of the model as it is now."""
        shape = list(self._shapes.get(name, (0,)))
        for dim, parts in self._cuts(name).items():
            shape[dim] = sum(width * self.size(site) for site, width in parts)
        return tuple(shape)

    def left(self, name: str, dim: int, masks: Mapping[str, Tensor]) -> Tensor | None:
        """The entries of a dimension that canonical `masks` leave; None where nothing cuts it."""
        parts = self._cuts(name).get(dim)
        if parts is None:
            return None
        marks = [masks[site].bool().repeat_interleave(width) for site, width in parts]
        return torch.cat(marks).nonzero().squeeze(1)

    def cut(self, name: str, value: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        """The part of a parameter or buffer that canonical `masks` leave."""
        for dim in range(value.dim()):
            index = self.left(name, dim, masks)
            if index is not None:
                value = value.index_select(dim, index.to(value.device))
        return value.contiguous()
