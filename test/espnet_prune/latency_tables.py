"""Latency tables without a measurement: times that are easy to compute by hand."""

import itertools
import json
from pathlib import Path

import torch

from espnet_prune.structured.cost.latency import Grid, LatencyTable

REST = 5.0


def by_hand(kind: str, *sizes: float) -> float:
    """Seconds of a block; all are products of straight lines, which interpolation has to hit."""
    if kind == "attention":
        heads, qk, vo = sizes
        return heads * (2.0 + 0.2 * qk + 0.3 * vo)
    if kind.startswith("cnn.") and len(sizes) == 2:
        return 1.0 + 0.02 * sizes[0] * sizes[1] + 0.1 * sizes[1]
    return 0.3 * sizes[0]


def synthetic(plan) -> LatencyTable:
    """A table for the model of a plan."""
    grids = {}
    for block in plan.declaration.blocks:
        axes = []
        for axis in block.axes:
            size = plan.sites[axis.site].size
            size = size // plan.sites[axis.per].size if axis.per else size
            axes.append(tuple(sorted({0.0, 1.0, float(size // 2), float(size)})))
        values = [by_hand(block.kind, *point) for point in itertools.product(*axes)]
        seconds = torch.tensor(values, dtype=torch.double).view([len(axis) for axis in axes])
        grids[block.kind] = Grid(tuple(axes), seconds)
    return LatencyTable("a synthetic model", plan.fingerprint, REST, grids)


def table_file(plan, path: Path) -> Path:
    """The synthetic table as a file."""
    path.write_text(json.dumps(synthetic(plan).to_json()))
    return path
