"""The linear algebra of one-shot pruning: principal axes, elimination, least squares.

All of it is about E |X W - Y|^2 for features X that are known by their Gram matrix G = X^T X alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: added to the diagonal of a Gram matrix, relative to its mean
RIDGE = 1e-4
#: units that go at a time: at least so many, and at most this share of those that are left
BLOCK, SHARE = 8, 1 / 16
#: rows of units that went are dropped when less than this share is left
PACKED = 0.75


def root(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric square root of a Gram matrix, and its inverse."""
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp(min=1e-6 * float(values.max().clamp(min=1e-30))).sqrt()
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T


def product_axes(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Bases in which the dimensions of q^T k are ordered by what they contribute.

    With C_q^1/2 C_k^1/2 = U S V^T the new q is S^1/2 U^T C_q^-1/2 q, the new k is
    S^1/2 V^T C_k^-1/2 k. Their product is that of the old, and the first n dimensions are the best
    n: E (q^T k)^2 over independent q and k is the sum of the squares of S.

    Args:
        query, key: (d, d) Gram matrices C_q and C_k.
    Returns: (d, d) matrices that the projections of q and k are multiplied by from the left.
    """
    (q, q_inverse), (k, k_inverse) = root(query), root(key)
    left, values, right = torch.linalg.svd(q @ k)
    scale = values.sqrt()[:, None]
    return scale * (left.T @ q_inverse), scale * (right @ k_inverse)


def linear_axes(weight: Tensor, gram: Tensor) -> tuple[Tensor, Tensor]:
    """A basis of the input of a linear map in which it is ordered by what it contributes.

    With W C^1/2 = U S V^T the new input is V^T C^-1/2 x, white, and the new map W C^1/2 V.

    Args:
        weight: (D, d), its rows weighted by what an error of each output costs.
        gram: (d, d) of the input.
    Returns: (d, d) what the input is multiplied by from the left, and the map from the right.
    """
    forth, back = root(gram)
    right = torch.linalg.svd(weight @ forth)[2]
    return right @ back, forth @ right.T


def eliminate(
    gram: Tensor,
    weight: Tensor,
    units: int,
    width: int = 1,
    groups: int = 0,
    each: int = 1,
    ridge: float = RIDGE,
) -> tuple[list[int], list[float]]:
    """Backward elimination: which unit goes next, when the others make up for those that went.

    Args:
        gram: (C, C) of the features: `width` consecutive ones a unit, then those that always stay.
        weight: (C, D), its columns weighted by what an error of each output costs.
        groups, each: where they are given, the units are so many groups of equal size, and of every
            group `each` go at a time.
        ridge: added to the diagonal, relative to its mean; 0 for a matrix that has it already.
    Returns: the numbers of the units in the order in which they go, and the error after each.
    """
    inverse, weight = torch.linalg.inv(regular(gram, units * width, ridge)), weight.clone()
    # Of the units whose rows are still there; those that went have the rows of an identity
    numbers, stays = torch.arange(units), torch.ones(units, dtype=torch.bool)
    order: list[int] = []
    errors: list[float] = []
    total = 0.0
    while len(order) < units:
        columns = torch.arange(len(numbers) * width).view(-1, width)
        inner = weight[columns]
        blocks = inverse[columns[:, :, None], columns[:, None, :]]
        cost = (torch.linalg.solve(blocks, inner) * inner).sum((1, 2))
        cost[~stays] = torch.inf
        if groups:
            of, left = cost.view(groups, -1), (units - len(order)) // groups
            least = of.argsort(1)[:, : min(each, left)]
            goes = (least + torch.arange(groups)[:, None] * of.shape[1]).T.flatten()
        else:
            number = int((units - len(order)) * SHARE)
            goes = cost.argsort()[: max(1, min(number, max(BLOCK, units // 128)))]
        gone = columns[goes].flatten()
        across = inverse[:, gone]
        pivot = across[gone]
        removed = torch.linalg.solve(pivot, weight[gone])
        step = float((weight[gone] * removed).sum())
        weight.addmm_(across, removed, alpha=-1)
        inverse.addmm_(across, torch.linalg.solve(pivot, across.T), alpha=-1)
        weight[gone] = inverse[gone] = inverse[:, gone] = 0
        inverse[gone, gone] = 1
        order += numbers[goes].tolist()
        errors += [total + step * (i + 1) / len(goes) for i in range(len(goes))]
        total += step
        stays[goes] = False
        if stays.sum() < PACKED * len(stays):  # copies of the whole cost more than the updates
            rest = torch.cat([columns[stays].flatten(), torch.arange(columns.numel(), len(weight))])
            weight, inverse = weight[rest], inverse[rest][:, rest]
            numbers, stays = numbers[stays], stays[stays]
    return order, errors


def refit(
    gram: Tensor, weight: Tensor, kept: Tensor, units: int, width: int = 1, ridge: float = RIDGE
) -> Tensor:
    """argmin over V of E |X_kept V - X W|^2: the weights of what is left that come nearest.

    Args:
        gram, weight, units, width, ridge: as for `eliminate`.
        kept: numbers of the units.
    Returns: (kept features, D).
    """
    columns = torch.cat(
        [
            (kept[:, None] * width + torch.arange(width)).flatten(),
            torch.arange(units * width, len(gram)),
        ]
    )
    gram = regular(gram, units * width, ridge)
    return torch.linalg.solve(gram[columns][:, columns], gram[columns] @ weight)


def regular(gram: Tensor, features: int, ridge: float = RIDGE) -> Tensor:
    """With a ridge on so many features, relative to their mean energy."""
    added = torch.zeros_like(gram.diagonal())
    added[:features] = ridge * gram.diagonal()[:features].mean().clamp(min=1e-30)
    return gram + added.diag()


def convex(errors: Sequence[float]) -> list[float]:
    """The increments of the largest convex curve below `errors` (0 before the first)."""
    runs: list[tuple[float, int]] = []  # sum of increments, number
    before = 0.0
    for error in errors:
        run = (max(error - before, 0.0), 1)
        before = error
        while runs and runs[-1][0] * run[1] >= run[0] * runs[-1][1]:
            last = runs.pop()
            run = (last[0] + run[0], last[1] + run[1])
        runs.append(run)
    return [total / number for total, number in runs for _ in range(number)]
