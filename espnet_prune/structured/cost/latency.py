"""Latency by a look-up table: measured times of the parts of a model, put together.

    latency(units) = rest + sum over blocks b of f_b(sizes of b)

with f multilinear between the measured sizes (heads and their mean query-key and value-output size,
feed-forward dimensions, channels in and out, …) and `rest` what is left of the time of the dense
model: norms, sums, the position bias. Expected sizes give the differentiable cost, exact ones the
prediction for a slimmed model.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from espnet_prune.files.reading import parse_json, read_text
from espnet_prune.structured.families.declaration import Axis
from espnet_prune.structured.plan import Plan

COMMAND = "espnet-prune encoder latency"


def interpolate(axes: Sequence[Sequence[float]], values: Tensor, at: Sequence[Tensor]) -> Tensor:
    """Multilinear interpolation, the nearest value outside; a differentiable scalar.

    Args:
        axes: increasing grid points of each dimension of `values`.
        at: scalars, one for each axis. On a grid point the value is the table's own.
    """
    for axis, x in zip(axes, at, strict=True):
        if len(axis) == 1:
            values = values[0]
            continue
        right = min(max(bisect_left(axis, float(x.detach())), 1), len(axis) - 1)
        share = ((x - axis[right - 1]) / (axis[right] - axis[right - 1])).clamp(0, 1)
        values = (1 - share) * values[right - 1] + share * values[right]
    return values


def monotone(values: Tensor) -> Tensor:
    """The table that grows along every axis whose largest change of `values` is least.

    Noise of a measurement must not reward keeping more units. It is the mean of the largest value
    at smaller sizes and the least at larger ones (isotonic regression in the maximum norm).
    """
    up = down = values
    for dim in range(values.dim()):
        up = up.cummax(dim).values
        down = down.flip(dim).cummin(dim).values.flip(dim)
    return (up + down) / 2


@dataclass(frozen=True)
class Grid:
    """Times of one kind of block.

    Attributes:
        axes: sizes, increasing.
        seconds: a dimension for each axis.
    """

    axes: tuple[tuple[float, ...], ...]
    seconds: Tensor

    def __post_init__(self) -> None:
        if self.seconds.shape != tuple(map(len, self.axes)):
            raise ValueError("as many times as sizes are needed")
        if any(b <= a for axis in self.axes for a, b in pairwise(axis)):
            raise ValueError("the sizes have to increase")
        if not bool((self.seconds.isfinite() & (self.seconds >= 0)).all()):
            raise ValueError("times have to be numbers from 0 on")


@dataclass(frozen=True)
class LatencyTable:
    """A cost for `Plan.cost`: seconds of a forward pass on the machine of the table.

    Attributes:
        model: what it was measured for, in words.
        fingerprint: of that model's plan.
        rest: seconds that no pruning saves.
        grids: kind of block -> its times.
        conditions: seconds, batch, dtype, device and threads that it was measured with.
        source: file of the table, for errors.
    """

    model: str
    fingerprint: str
    rest: float
    grids: dict[str, Grid]
    conditions: dict = field(default_factory=dict)
    source: str = "latency table"

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """Read what `to_json` wrote (and the command line put into a file).

        Raises:
            FileNotFoundError: no such file.
            ValueError: no JSON, or not a latency table.
        """
        content = read_text(path, hint=f"make it with {COMMAND}")
        try:
            found, grids = parse_json(content), {}
            for kind, grid in found["grids"].items():
                axes = tuple(tuple(map(float, axis)) for axis in grid["axes"])
                grids[kind] = Grid(axes, torch.tensor(grid["seconds"], dtype=torch.double))
            rest = float(found["rest_seconds"])
            if not (math.isfinite(rest) and rest >= 0):
                raise ValueError("rest_seconds has to be a number from 0 on")
            conditions = dict(found["measured_with"])
            return cls(found["model"], found["fingerprint"], rest, grids, conditions, str(path))
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RuntimeError,
            OverflowError,
        ) as error:
            what = f"it has no {error}" if isinstance(error, KeyError) else error
            text = f"{path}: damaged, or not a latency table ({what}); make it with {COMMAND}"
            raise ValueError(text) from None

    def to_json(self) -> dict:
        """Numbers for a JSON file."""
        return {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "measured_with": self.conditions,
            "rest_seconds": self.rest,
            "grids": {
                kind: {"axes": grid.axes, "seconds": grid.seconds.tolist()}
                for kind, grid in self.grids.items()
            },
        }

    def __call__(self, plan: Plan, units: Mapping[str, Tensor]) -> Tensor:
        """Expected or exact latency in seconds, a differentiable scalar (float64).

        Args:
            plan: of the model of the table, dense or slimmed.
            units: as in `Plan.effective`.
        Raises:
            ValueError: the table is of another model.
        """
        if plan.fingerprint != self.fingerprint:
            raise ValueError(
                f"{self.source}: is for {self.model}, and this model has other shapes; make one "
                f"for it with {COMMAND}"
            )
        whole = plan.effective(units)
        # All sums to the CPU at once: the cells of the grids are looked up there
        sums = torch.stack([unit.double().sum() for unit in whole.values()])
        counts = dict(zip(whole, sums.cpu(), strict=True))
        total = torch.tensor(self.rest, dtype=torch.double)
        for block in plan.declaration.blocks:
            grid = self.grids.get(block.kind)
            if grid is None or len(grid.axes) != len(block.axes):
                raise ValueError(
                    f"{self.source}: damaged or old, it lacks times of '{block.kind}' by all its "
                    f"sizes; make it with {COMMAND}"
                )
            at = [size_of(axis, counts) for axis in block.axes]
            total = total + interpolate(grid.axes, grid.seconds, at)
        return total.to(sums.device)


def size_of(axis: Axis, counts: Mapping[str, Tensor]) -> Tensor:
    """The size that an axis means, of units left of each site."""
    # Without any head there is no time either, whatever the size of a head
    size = counts[axis.site]
    return size if axis.per is None else size / counts[axis.per].clamp(min=1e-9)
