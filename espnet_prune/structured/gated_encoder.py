"""Gates attached to an encoder: masked forward passes, expected cost, hard masks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from espnet_prune.structured.encoder import SpeechEncoder, SpeechEncoderOutput
from espnet_prune.structured.families import COARSE
from espnet_prune.structured.gates import HardConcrete, prob_nonzero
from espnet_prune.structured.layout import level, plan_for
from espnet_prune.structured.plan import Cost


class GatedEncoder(nn.Module):
    """An encoder with one hard concrete gate for every unit of every prunable site.

    The gates multiply weights, not activations (a gate times a column of the weight that reads
    the unit is the same function, and weights are smaller than activations); the encoder's own
    parameters stay the ones that are trained.

    Args:
        encoder: dense or already slimmed.
        protected: kinds or names of sites without gates.
        init: initial log_alpha.
        ste: straight-through estimator in the gates.
        cost: what sparsity means, see `Plan.cost`.
        round_to: hard masks keep multiples of so many CNN and positional channels, dimensions of
            each head and feed-forward dimensions; 1 keeps as many as the gates say.
        layout: that hard masks leave attention in, see `espnet_prune.structured.layout`.
        seed: of the tiny noise that breaks ties between equal gates.

    >>> from espnet_prune.structured import SpeechEncoderConfig, slim
    >>> base = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2}
    >>> encoder = SpeechEncoder(SpeechEncoderConfig("whisper", {**base, "encoder_ffn_dim": 64}))
    >>> gated = GatedEncoder(encoder)  # train its parameters with `espnet_prune.structured.distill`
    >>> masks = gated.hard_masks(sparsity=0.25)
    >>> round(gated.exact_sparsity(masks), 2)
    0.25
    >>> small = slim(encoder, masks)
    """

    def __init__(
        self,
        encoder: SpeechEncoder,
        protected: Iterable[str] = (),
        init: float = 3.0,
        ste: bool = True,
        cost: Cost = "parameters",
        seed: int = 0,
        round_to: int = 1,
        layout: str = "free",
    ):
        super().__init__()
        self.encoder, self.round_to, self.layout = encoder, round_to, layout
        self.plan = plan_for(encoder, layout, protected)
        self.cost = cost
        generator = torch.Generator().manual_seed(seed)
        self.gates = nn.ModuleDict()
        for name in self.plan.prunable():
            gate = HardConcrete(self.plan.size(name), init, ste, generator)
            self.gates[name.replace(".", "/")] = gate  # names of modules must not have dots
        self.dense_cost = float(self.plan.cost(cost))

    def _per_site(self, read: Callable[[Any], Tensor]) -> dict[str, Tensor]:
        return {name.replace("/", "."): read(gate) for name, gate in self.gates.items()}

    def log_alphas(self) -> dict[str, Tensor]:
        """site -> (size,) log_alpha."""
        return self._per_site(lambda gate: gate.log_alpha)

    def forward(self, *args: Any, **kwargs: Any) -> SpeechEncoderOutput:
        """`SpeechEncoder.forward` with one draw of all gates (noise-free in eval mode)."""
        return self.masked_forward(self._per_site(lambda gate: gate()), *args, **kwargs)

    def masked_forward(
        self, units: Mapping[str, Tensor], *args: Any, **kwargs: Any
    ) -> SpeechEncoderOutput:
        """`SpeechEncoder.forward` with every unit multiplied by `units`, site -> (size,)."""
        weights, gates = self._scaled(units)
        weights = {f"backbone.{name}": value for name, value in weights.items()}
        modules: dict[str, Any] = {n: self.encoder.backbone.get_submodule(n) for n in gates}
        try:
            for name, module in modules.items():
                module.gate = gates[name]
            return functional_call(self.encoder, weights, args, kwargs)
        finally:
            for module in modules.values():
                module.gate = None

    def _scaled(self, units: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Parameters times gates, and gates of the modules that apply them themselves."""
        whole = self.plan.effective(units)
        parameters: dict[str, Tensor] = dict(self.encoder.backbone.named_parameters())
        modules: dict[str, Tensor] = {}
        for name, site in self.plan.sites.items():
            for scale in site.scales:
                z = whole[name] if scale.inherit else units.get(name)
                if z is None or not z.numel():
                    continue
                if scale.dim is None:
                    modules[scale.target] = z
                elif scale.target in parameters:
                    weight = parameters[scale.target]
                    wide = z.repeat_interleave(weight.shape[scale.dim] // z.numel())
                    shape = [1] * weight.dim()
                    shape[scale.dim] = -1
                    parameters[scale.target] = weight * wide.to(weight.dtype).view(shape)
        return parameters, modules

    def expected_sparsity(self) -> Tensor:
        """1 - E[cost] / cost of the model without gates, a differentiable scalar."""
        units = self._per_site(lambda gate: prob_nonzero(gate.log_alpha))
        return 1.0 - self.plan.cost(self.cost, units) / self.dense_cost

    def exact_sparsity(self, masks: Mapping[str, Tensor]) -> float:
        """The sparsity that slimming by hard `masks` gives."""
        return 1.0 - float(self.plan.cost(self.cost, self.plan.canonical(masks))) / self.dense_cost

    @torch.no_grad()
    def hard_masks(self, sparsity: float | None = None) -> dict[str, Tensor]:
        """site -> (size,) of exactly 0 and 1.

        Args:
            sparsity: None keeps the units whose noise-free gate is at least one half
                (log_alpha >= 0). A number moves that threshold, the same for all gates of single
                units, to where the exact sparsity is nearest to it; the coarse gates (whole
                sub-layers and heads), each of which is a step in the cost, are moved with them
                only where that comes nearer.
        """
        alphas = {name: alpha.detach() for name, alpha in self.log_alphas().items()}
        if sparsity is None:
            return self._threshold(alphas, 0.0, ())
        fine = [name for name in alphas if self.plan.sites[name].kind not in COARSE]
        moves = (fine, list(alphas))
        options = [masks for moved in moves for masks in self._around(alphas, moved, sparsity)]
        return min(options, key=lambda masks: abs(self.exact_sparsity(masks) - sparsity))

    def _around(
        self, alphas: Mapping[str, Tensor], moved: list[str], sparsity: float
    ) -> list[dict[str, Tensor]]:
        """The masks just below and just above the wanted sparsity, moving one threshold."""
        if not moved:
            return []
        candidates = torch.cat([alphas[name] for name in moved]).unique().tolist()  # sorted

        def sparsity_at(threshold: float) -> float:
            return self.exact_sparsity(self._threshold(alphas, threshold, moved))

        # Exact sparsity grows with the threshold: the first candidate that reaches the target.
        first = bisect_left(candidates, sparsity, key=sparsity_at)
        around = candidates[max(0, first - 1) : first + 1]
        return [self._threshold(alphas, threshold, moved) for threshold in around]

    def _threshold(
        self, alphas: Mapping[str, Tensor], threshold: float, moved: Iterable[str]
    ) -> dict[str, Tensor]:
        """Masks by `threshold` at the sites `moved` and by 0 at the others."""
        masks = {}
        for name, alpha in alphas.items():
            site = self.plan.sites[name]
            mask = (alpha >= (threshold if name in moved else 0.0)).float()
            if mask.sum() < site.at_least:
                mask[alpha.topk(site.at_least).indices] = 1.0
            if self.round_to > 1 and site.kind not in COARSE:
                mask = self._rounded(mask, alpha, self.plan.groups(name))
            masks[name] = mask
        return level(self.plan, masks, alphas, self.layout, self.round_to)

    def _rounded(self, mask: Tensor, alpha: Tensor, groups: Tensor) -> Tensor:
        """Open or close the gates that are nearest to the threshold, until each group keeps a
        multiple of `round_to` units, or all it has. A group with units left keeps some."""
        groups = groups.to(alpha.device)
        sizes = torch.bincount(groups)
        kept = torch.zeros(len(sizes), device=alpha.device).index_add(0, groups, mask)
        wanted = (kept / self.round_to + 0.5).floor().clamp(min=1) * self.round_to
        wanted = wanted.minimum(sizes).where(kept > 0, 0)
        order = alpha.argsort(descending=True, stable=True)
        order = order[groups[order].argsort(stable=True)]  # by group, the most open gate first
        first = sizes.cumsum(0) - sizes
        rank = torch.arange(len(alpha), device=alpha.device) - first[groups[order]]
        stays = (rank < wanted[groups[order]]).to(mask.dtype)
        return torch.zeros_like(mask).index_copy(0, order, stays)
