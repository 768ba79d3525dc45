"""What an attention may look like in a layout, and which of these forms are worth having."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from espnet_prune.structured.one_shot.elimination import eliminate, refit, regular
from espnet_prune.structured.one_shot.statistics import Heads, curve
from espnet_prune.structured.plan import Cost, Plan

#: so many sizes of a head are looked at
SIZES = 16


@dataclass(frozen=True)
class Option:
    """A form of an attention.

    Attributes:
        saved: of the cost, against the model as it is.
        error: that it brings, in the unit of `eliminate`.
        masks: site -> (size,) of 0 and 1.
    """

    saved: float
    error: float
    masks: dict[str, Tensor]


def options(
    plan: Plan, heads: Heads, measured: Sequence[Mapping[int, float]], layout: str, cost: Cost
) -> list[Option]:
    """Forms of an attention that save more for each error than others; the first is the whole.

    Args:
        heads: with the statistics of its reader.
        measured: of each head, kept query-key dimensions -> error, see `query_key_errors`.
        layout: "equal" or "stock", see `espnet_prune.structured.layout`.
    Raises:
        ValueError: the heads have different sizes.
    """
    module = heads.module
    if len(set(module.qk_sizes)) > 1 or len(set(module.vo_sizes)) > 1:
        text = f"has heads of different sizes already: prune the dense model to layout {layout}"
        raise ValueError(f"{heads.name} {text}")
    number, qk_size, vo_size = len(module.heads), module.qk_sizes[0], module.vo_sizes[0]
    mha, head, qk, vo = (f"{heads.name}.{role}" for role in ("mha", "head", "qk", "vo"))
    whole = {n: torch.ones(plan.size(n)) for n in plan.prunable() if n in (mha, head, qk, vo)}
    dense, price = float(plan.cost(cost)), plan.prices(cost)
    curves = [curve(each) for each in measured]

    def counted(option: Option) -> Option:
        return replace(option, saved=dense - float(plan.cost(cost, option.masks)))

    def option(masks: dict[str, Tensor], error: float) -> Option:
        masks = {**whole, **{name: mask for name, mask in masks.items() if name in whole}}
        if callable(cost):
            return counted(Option(0.0, error, masks))
        # There are thousands of forms, and parameters and MACs are sums over units: of a head that
        # goes its own price, which has that of its dimensions in it
        gone = {name: float((1 - mask).sum()) for name, mask in masks.items()}
        if gone.get(mha):
            return Option(price[mha], error, masks)
        heads_gone = gone.get(head, 0.0)
        saved = heads_gone * price.get(head, 0.0)
        for name, size in ((qk, qk_size), (vo, vo_size)):
            if name in masks:
                saved += (gone[name] - heads_gone * size) * price[name]
        return Option(saved, error, masks)

    found = []
    heads_go = layout == "equal" and head in whole
    for left, values in _heads_and_values(heads, heads_go, vo in whole):
        if not len(left):
            if mha in whole:
                found.append(option({n: torch.zeros(plan.size(n)) for n in whole}, values[0][0]))
            continue
        alive = torch.zeros(number).index_fill(0, left, 1.0)
        of_queries = _sizes(qk_size) if qk in whole else [qk_size]
        of_values = _sizes(vo_size) if vo in whole else [vo_size]
        for size, width in product(of_queries, of_values):
            if layout == "stock" and size != width:
                continue
            first = (torch.arange(qk_size) < size).float()
            error, mask = values[width]
            error += sum(float(curves[h][size]) for h in left.tolist())
            of_heads = {head: alive, qk: alive[:, None].mul(first).flatten(), vo: mask}
            found.append(option(of_heads, error))
    return [counted(each) for each in _hull(found)]


def _heads_and_values(
    heads: Heads, heads_go: bool, values_go: bool
) -> list[tuple[Tensor, dict[int, tuple[float, Tensor]]]]:
    """(heads that are left, dimensions of values that each keeps -> error and mask of the values).

    Heads go one after another, with all their dimensions; then dimensions of each that is left, as
    many at a time as there are between two of the `SIZES`.
    """
    reader, number = heads.reader, len(heads.module.heads)
    size, total = heads.module.vo_sizes[0], sum(heads.module.vo_sizes)
    weight = reader.weigh()
    gram = regular(reader.gram, total)  # once, so that errors of heads and dimensions add up
    order, errors = eliminate(gram, weight, number, size, ridge=0) if heads_go else ([], [])
    found = []
    for gone, error in zip(range(len(order) + 1), [0.0, *errors], strict=True):
        left = torch.tensor([h for h in range(number) if h not in order[:gone]]).long()
        rows = (left[:, None] * size + torch.arange(size)).flatten()
        columns = torch.cat([rows, torch.arange(total, len(gram))])
        mask = torch.zeros(total).index_fill(0, rows, 1.0)
        values = {size if len(left) else 0: (error, mask)}
        if len(left) and values_go:
            fitted = refit(gram, weight, left, number, size, ridge=0)
            part = gram[columns][:, columns]
            step = {"groups": len(left), "each": max(1, size // SIZES)}
            ranks, more = eliminate(part, fitted, len(rows), **step, ridge=0)
            for n in range(1, size):
                out = rows[torch.tensor(ranks[: n * len(left)])]
                lost = error + more[n * len(left) - 1]
                values[size - n] = (lost, mask.index_fill(0, out, 0.0))
        found.append((left, values))
    return found


def _sizes(most: int) -> list[int]:
    return sorted({max(1, round(most * i / SIZES)) for i in range(1, SIZES + 1)})


def _hull(found: Sequence[Option]) -> list[Option]:
    """The lower convex hull of error over saved cost, from the least saved on."""
    hull: list[Option] = []
    for option in sorted(found, key=lambda each: (each.error, -each.saved)):
        if hull and option.saved <= hull[-1].saved:
            continue
        while len(hull) > 1 and slope(hull[-2], hull[-1]) >= slope(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def slope(a: Option, b: Option) -> float:
    """Error for each unit of cost that is saved from one form to the next."""
    return (b.error - a.error) / (b.saved - a.saved)
