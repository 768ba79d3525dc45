"""One-shot pruning: what to remove, and how the rest makes up for it, without training.

A few minutes of audio go through the encoder, and everything else is linear algebra, driven by the
declaration of sites alone:

1. *Sensitivity.* With v ~ N(0, 1), E[(d <v, state> / d y)^2] says how much of an error of a layer's
   output y arrives in the last state. It weights frames and dimensions: errors of all layers are in
   one unit, and silence that nothing depends on does not decide.
2. *Principal axes.* A head computes only q^T k and W_o W_v. Both pairs of projections are brought
   into bases in which dimensions are ordered by what they contribute; the function stays the same.
3. *Elimination.* Units go one after another, always those that cost least when the others make up
   for them by least squares (optimal brain surgeon; Hassibi and Stork, 1993), for every layer that
   reads prunable units. Of query-key dimensions the error of the head's output is measured, since
   the softmax lies between.
4. *Budget.* Of all sites those units go that bring the least error for each unit of cost. In a
   layout whose heads are equal, attention goes from form to form in the same order (`options`).
5. *Compensation.* What reads the units that are left gets the least-squares weights for them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from espnet_prune.structured.encoder import SpeechEncoder
from espnet_prune.structured.layout import plan_for
from espnet_prune.structured.one_shot.elimination import (
    convex,
    eliminate,
    linear_axes,
    product_axes,
    refit,
)
from espnet_prune.structured.one_shot.options import Option, options, slope
from espnet_prune.structured.one_shot.statistics import (
    Heads,
    Probe,
    Statistics,
    curve,
    gather,
    query_key_errors,
    random_probe,
)
from espnet_prune.structured.plan import NEAR, Cost, Plan
from espnet_prune.structured.slim import slim

#: waveforms on which errors of query-key dimensions are measured
MEASURED = 4


def prune_one_shot(
    encoder: SpeechEncoder,
    waveforms: Sequence[Tensor],
    target: float = 0.5,
    cost: Cost = "parameters",
    protected: Iterable[str] = (),
    seed: int = 0,
    probe: Probe | None = None,
    layout: str = "free",
    compensate: bool = True,
) -> tuple[SpeechEncoder, dict[str, Any]]:
    """A smaller encoder whose last hidden state is close to that of `encoder`, without training.

    Args:
        encoder: dense or already pruned; it is not changed.
        waveforms: (T,) at 16 kHz each, minutes of speech as the encoder will hear it.
        target: share of the cost to remove, in [0, 1).
        cost: see `Plan.cost`.
        protected: kinds or names of sites that stay whole. With "qk" and "vo" heads go as a whole.
        seed: of the random directions of the sensitivity.
        probe: what errors matter for; by default for the last state, all dimensions alike.
        layout: of attention, see `espnet_prune.structured.layout`. In another than "free" an
            attention changes from one of its forms to the next, those that bring the least error
            for what they save.
        compensate: false leaves the weights of what stays as they are, to see what least squares
            are worth: the same units go.
    Returns: the pruned encoder in eval mode, and `target`, `cost` and `exact` sparsity.
    Raises:
        ValueError: no waveforms, an unknown layout, a target outside [0, 1), or one that cannot
            be reached.
    """
    if not waveforms:
        raise ValueError("there are no waveforms to prune on")
    protected = tuple(protected)
    plan = plan_for(encoder, layout, protected)
    plan.check_target(target, cost)
    probe = probe or random_probe(seed)
    # What a whole head is worth is read off its values, even where these are protected
    heard = plan_for(encoder, layout, [p for p in protected if p != "vo" or "head" in protected])
    encoder, found = turned(encoder, heard, waveforms, probe)
    measured = query_key_errors(encoder, found, waveforms[:MEASURED])
    forms = {
        # Whole heads go, one after another, where nothing of them may
        name: options(plan, heads, measured[name], "equal" if layout == "free" else layout, cost)
        for name, heads in found.heads.items()
        if layout != "free" or _goes_by_heads(plan, heads)
    }
    steps = _steps(plan, found, measured, cost, forms)
    masks, exact = _choose(plan, steps, forms, target, cost)
    small = slim(encoder, masks).eval()
    if compensate:
        _compensate(small, plan, found, masks)
    return small, {"target": target, "cost": cost, "exact": exact}


def _goes_by_heads(plan: Plan, heads: Heads) -> bool:
    """Whether heads of an attention may go, but none of their dimensions. (Of heads of different
    sizes, which an encoder has that was pruned before, none goes.)"""
    free = {f"{heads.name}.{role}" for role in ("head", "qk", "vo")} & {*plan.prunable()}
    sizes = {*zip(heads.module.qk_sizes, heads.module.vo_sizes, strict=True)}
    return free == {f"{heads.name}.head"} and len(sizes) == 1


def turned(
    encoder: SpeechEncoder, plan: Plan, waveforms: Sequence[Tensor], probe: Probe
) -> tuple[SpeechEncoder, Statistics]:
    """A copy in eval mode whose heads are in their principal axes, which computes the same, and
    its statistics."""
    encoder = copy.deepcopy(encoder).eval()
    found = gather(encoder, plan, waveforms, probe)
    for heads in found.heads.values():
        _turn(heads)
    return encoder, found


@torch.no_grad()
def _turn(heads: Heads) -> None:
    """Bring the projections of an attention into their principal axes, head by head, and the Gram
    matrix of its attended values with them: x' = A x where value' = A value."""
    module, gram = heads.module, heads.reader.gram
    query, key, value, out = (getattr(module, name) for name in module.projections)
    rows = [torch.arange(sum(module.qk_sizes)).split(module.qk_sizes)]
    rows += [torch.arange(sum(module.vo_sizes)).split(module.vo_sizes)]
    weigh = heads.reader.sensitivity.sqrt()[:, None]
    for head, (qk, vo) in enumerate(zip(*rows, strict=True)):
        if len(qk):
            of_query, of_key = product_axes(heads.query[head], heads.key[head])
            _multiply(module.query_side(), qk, of_query)
            _multiply(module.key_side(), qk, of_key)
            even = _norms(key.weight[qk]) / _norms(query.weight[qk])
            _multiply(module.query_side(), qk, even.sqrt().diag())
            _multiply(module.key_side(), qk, even.rsqrt().diag())
        if len(vo):
            columns = out.weight[:, vo].cpu().double()
            forth, back = linear_axes(weigh * columns, heads.value[head])
            _multiply(value.parameters(), vo, forth)
            columns = columns @ back
            even = (_norms(columns.T) / _norms(value.weight[vo])).sqrt()
            _multiply(value.parameters(), vo, even.diag())
            out.weight[:, vo] = (columns / even).to(out.weight)
            axes = even[:, None] * forth
            gram[vo] = axes @ gram[vo]
            gram[:, vo] = gram[:, vo] @ axes.T


def _norms(rows: Tensor) -> Tensor:
    return rows.cpu().double().norm(dim=1).clamp(min=1e-12)


def _multiply(parameters: Iterable[torch.nn.Parameter], rows: Tensor, matrix: Tensor) -> None:
    for parameter in parameters:
        turned = matrix @ parameter[rows].cpu().double()
        parameter[rows] = turned.to(parameter)


def _steps(
    plan: Plan,
    found: Statistics,
    measured: dict[str, list[dict[int, float]]],
    cost: Cost,
    forms: dict[str, list[Option]],
) -> list[tuple[str, int]]:
    """(site, unit that goes) or (attention, number of its form): least error for the cost first."""
    price = plan.prices(cost)
    steps: list[tuple[float, str, int]] = []

    def add(site: str, order: Sequence[int], errors: Sequence[float]) -> None:
        if price[site] > 0:
            rises = convex(errors)
            steps.extend((r / price[site], site, u) for r, u in zip(rises, order, strict=True))

    formed = {f"{name}.{role}" for name in forms for role in ("qk", "vo")}
    for site, reader in found.readers.items():
        if site in formed or site not in price:
            continue
        order, errors = eliminate(reader.gram, reader.weigh(), plan.size(site), reader.width)
        stays = plan.sites[site].at_least
        add(site, order[: len(order) - stays], errors[: len(order) - stays])
    for site, energies in found.energies.items():
        energies, ranks = energies.sort()
        add(site, ranks.tolist(), energies.cumsum(0).tolist())
    for name, heads in measured.items():
        site, first = f"{name}.qk", 0
        for errors_at in heads if site in price and site not in formed else ():
            size = max(errors_at)
            lost = curve(errors_at)[:size]
            add(site, range(first + size - 1, first - 1, -1), lost[::-1].tolist())
            first += size
    for name, chain in forms.items():
        pairs = zip(chain, chain[1:], strict=False)
        steps.extend((slope(a, b), name, number) for number, (a, b) in enumerate(pairs, 1))
    return [(site, unit) for _, site, unit in sorted(steps, key=lambda step: step[0])]


def _choose(
    plan: Plan,
    steps: Sequence[tuple[str, int]],
    forms: dict[str, list[Option]],
    target: float,
    cost: Cost,
) -> tuple[dict[str, Tensor], float]:
    """Canonical masks after the steps that come nearest to the target, and the exact sparsity."""
    dense = float(plan.cost(cost))

    def after(number: int) -> tuple[dict[str, Tensor], float]:
        masks = {name: torch.ones(plan.size(name)) for name in plan.prunable()}
        for site, unit in steps[:number]:
            if site in forms:
                masks |= forms[site][unit].masks
            else:
                masks[site][unit] = 0
        masks = plan.canonical(masks)
        return masks, 1.0 - float(plan.cost(cost, masks)) / dense

    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        if after(middle)[1] < target:
            low = middle + 1
        else:
            high = middle
    below, above = after(max(low - 1, 0)), after(low)
    if above[1] < target - NEAR:
        text = "protect fewer sites, or remove less"
        raise ValueError(f"target {target:g} cannot be reached, at most {above[1]:.4f}: {text}")
    # The nearer one; of a small model a single unit may be more than what a target may be missed by
    near = abs(below[1] - target) < min(abs(above[1] - target), NEAR)
    return below if near else above


@torch.no_grad()
def _compensate(
    small: SpeechEncoder, plan: Plan, found: Statistics, masks: dict[str, Tensor]
) -> None:
    """Give the readers of a slimmed encoder the least-squares weights for what is left."""
    modules = dict(small.backbone.named_modules())
    for site, reader in found.readers.items():
        module, kept = modules.get(reader.name), masks[site].nonzero().squeeze(1)
        if not isinstance(module, type(reader.module)) or not len(kept):
            continue
        weight = refit(reader.gram, reader.weight(), kept, plan.size(site), reader.width)
        rows = plan.left(f"{reader.name}.weight", 0, masks)
        if rows is not None:
            weight = weight[:, rows]
        if module.bias is not None:
            module.bias.copy_(weight[-1])
            weight = weight[:-1]
        module.weight.copy_(weight.T.reshape(module.weight.shape))
