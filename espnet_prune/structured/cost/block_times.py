"""Measures a `LatencyTable`: random weights, a coarse grid of sizes, every block in its place.

Each size is timed inside whole forward passes, where weights come from memory and threads are as
warm as in use. One trial model tries many sizes at once, since its layers need not be alike; the
trial models and the dense one take turns. Others, of random sizes between those of the grid, only
show how far off the table's sums are.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from espnet_prune.structured.cost.latency import Grid, LatencyTable, monotone
from espnet_prune.structured.cost.measure import WARM_UP, time_in_turns
from espnet_prune.structured.encoder import SpeechEncoder
from espnet_prune.structured.families.declaration import Axis, Block
from espnet_prune.structured.plan import Kept, Plan

#: models of random sizes that the table is tried on
CHECKS = 6
#: (kind of block, its sizes)
Point = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Measurement:
    """What `measure` found.

    Attributes:
        measured, predicted: (models,) seconds of the dense model, the trial models and, last,
            `CHECKS` models that the table was not made from; and what the table says of them.
    """

    table: LatencyTable
    measured: np.ndarray
    predicted: np.ndarray


def whole_size(plan: Plan, axis: Axis) -> int:
    """The size of an axis in the base architecture."""
    size = plan.sites[axis.site].size
    return size if axis.per is None else size // plan.sites[axis.per].size


def grid_points(size: int, parts: int = 4) -> list[int]:
    """The sizes that are tried: one unit, the quarters (or other parts), the whole."""
    return sorted({max(1, size * part // parts) for part in range(parts + 1)})


def tried_points(plan: Plan, axis: Axis) -> list[int]:
    """The grid of an axis. Within heads, where there are two, it has the half and no quarters."""
    return grid_points(whole_size(plan, axis), 4 if axis.per is None else 2)


def trials(plan: Plan) -> list[dict[Axis, int]]:
    """Sizes of all axes of each trial model, so that every block meets every point of its grid.

    The axes of a block take slots 0, 1, …, whose sizes run through all combinations. Blocks that
    share an axis (a CNN layer reads what the one before has written, and has no third) run in step,
    others (the Transformer layers) do not, so that one model has blocks of many sizes.
    """
    slots: dict[Axis, int] = {}
    chains: dict[Axis, int] = {}
    for number, block in enumerate(plan.declaration.blocks):
        seen = [axis for axis in block.axes if axis in slots]
        chain = chains[seen[0]] if seen else number
        for axis in block.axes:
            if axis not in slots:
                slots[axis] = 1 - slots[seen[0]] if seen else block.axes.index(axis)
                chains[axis] = chain
    points = {axis: tried_points(plan, axis) for axis in slots}
    shapes: dict[int, list[int]] = defaultdict(list)  # of each chain: sizes in each slot
    for axis, tried in points.items():
        shape = shapes[chains[axis]]
        shape += [1] * (slots[axis] + 1 - len(shape))
        shape[slots[axis]] = max(shape[slots[axis]], len(tried))
    found = []
    for trial in range(max(map(math.prod, shapes.values()))):
        sizes = {}
        for axis, tried in points.items():
            shape = shapes[chains[axis]]
            place = np.unravel_index((trial + chains[axis]) % math.prod(shape), shape)
            sizes[axis] = tried[min(int(place[slots[axis]]), len(tried) - 1)]
        found.append(sizes)
    return found


def random_sizes(plan: Plan, generator: torch.Generator) -> dict[Axis, int]:
    """Any size of every axis."""
    axes = dict.fromkeys(axis for block in plan.declaration.blocks for axis in block.axes)
    return {
        axis: int(torch.randint(whole_size(plan, axis), (), generator=generator)) + 1
        for axis in axes
    }


def keep(plan: Plan, sizes: dict[Axis, int], generator: torch.Generator) -> Kept:
    """Units at random, as many as `sizes` say. Those of parents are spread unevenly over them, but
    none gets nothing."""
    kept = {name: tuple(range(site.size)) for name, site in plan.sites.items()}
    for axis, size in sizes.items():
        if axis.per is None:
            units = torch.randperm(plan.sites[axis.site].size, generator=generator)[:size]
        else:
            parents = torch.tensor(kept[axis.per])
            share = plan.sites[axis.site].size // plan.sites[axis.per].size
            order = torch.rand(len(parents), share, generator=generator).argsort(1)
            owned = order + parents[:, None] * share
            rest = owned[:, 1:].flatten()
            rest = rest[torch.randperm(len(rest), generator=generator)]
            units = torch.cat([owned[:, 0], rest[: (size - 1) * len(parents)]])
        kept[axis.site] = tuple(sorted(units.tolist()))
    return kept


def trial_model(dense: SpeechEncoder, kept: Kept) -> SpeechEncoder:
    """A model of which `kept` is left. Its weights lie in those of `dense`: no memory of its own,
    and no sense, which timing does not need."""
    small = dense.outline(kept)
    whole, wanted = dense.backbone.state_dict(), small.backbone.state_dict()
    parts = {n: whole[n].flatten()[: w.numel()].view(w.shape) for n, w in wanted.items()}
    small.backbone.load_state_dict(parts, assign=True)
    return small.eval()


class TimedBlocks:
    """A model that notes how long each block takes, for `time_in_turns`.

    Attributes:
        times: a list for each forward pass: seconds of every block.
    """

    def __init__(self, encoder: SpeechEncoder, blocks: Sequence[Block], progress: tqdm):
        self.encoder, self.progress = encoder, progress
        self.times: list[list[float]] = []
        self._starts: list = [None] * len(blocks)
        self._ends: list = [None] * len(blocks)
        for number, block in enumerate(blocks):
            first, last = (encoder.backbone.get_submodule(name) for name in block.modules)
            first.register_forward_pre_hook(lambda *_, n=number: self._note(self._starts, n))
            last.register_forward_hook(lambda *_, n=number: self._note(self._ends, n))

    def _note(self, marks: list, number: int) -> None:
        if self.encoder.device.type == "cuda":
            marks[number] = torch.cuda.Event(enable_timing=True)
            marks[number].record()
        else:
            marks[number] = time.perf_counter()

    def __call__(self, speech: Tensor, lengths: Tensor) -> None:
        self.encoder(speech, lengths, full_window=False)
        pairs = zip(self._starts, self._ends, strict=True)
        if speech.device.type == "cuda":
            torch.cuda.synchronize(speech.device)
            self.times.append([start.elapsed_time(end) / 1000 for start, end in pairs])
        else:
            self.times.append([end - start for start, end in pairs])
        self.progress.update()


def measure(
    dense: SpeechEncoder, seconds: float, repeats: int, batch: int = 1, model: str = "a model"
) -> Measurement:
    """Measure the table of a model on the device and in the type it has.

    Args:
        dense: in eval mode; random weights do.
        model: description of the model, for the table.
    """
    plan = dense.plan(seconds)
    blocks = plan.declaration.blocks
    generator = torch.Generator().manual_seed(0)
    tried = [{axis: whole_size(plan, axis) for block in blocks for axis in block.axes}]
    tried += trials(plan)
    checks = [random_sizes(plan, generator) for _ in range(CHECKS)]
    others = [*tried[1:], *checks]
    models = [dense, *(trial_model(dense, keep(plan, sizes, generator)) for sizes in others)]
    with tqdm(total=len(models) * (repeats + WARM_UP), unit="pass", mininterval=2) as progress:
        timed = [TimedBlocks(encoder, blocks, progress) for encoder in models]
        timings = time_in_turns(timed, seconds, repeats, batch, dense.device, dense.dtype)
    found: dict[Point, list[float]] = defaultdict(list)
    firsts: dict[str, int] = {}
    for number, block in enumerate(blocks):
        firsts.setdefault(block.kind, number)
    alone = {kind for kind in firsts if sum(block.kind == kind for block in blocks) == 1}
    for sizes, model_times in zip(tried, timed, strict=False):  # the checks come last
        medians = np.median(model_times.times[WARM_UP:], axis=0)
        for number, (block, value) in enumerate(zip(blocks, medians, strict=True)):
            # The first of several does what the others need not, e.g. WavLM's position bias
            if block.kind in alone or number != firsts[block.kind]:
                found[block.kind, tuple(sizes[axis] for axis in block.axes)].append(value)
    grids = {
        kind: _grid(plan, blocks[number], {s: v for (k, s), v in found.items() if k == kind})
        for kind, number in firsts.items()
    }
    measured = np.array([timing.percentile(50) for timing in timings])
    rest = measured[0] - sum(float(grids[block.kind].seconds.flatten()[-1]) for block in blocks)
    table = LatencyTable(model, plan.fingerprint, max(0.0, float(rest)), grids)
    predicted = [float(table(m.plan(seconds), {})) for m in models]
    return Measurement(table, measured, np.array(predicted))


def _grid(plan: Plan, block: Block, times: dict[tuple[int, ...], list[float]]) -> Grid:
    """Medians of the times of a kind of block, growing with every size; nothing takes no time."""
    axes = [tried_points(plan, axis) for axis in block.axes]
    medians = [float(np.median(times[point])) for point in itertools.product(*axes)]
    values = torch.tensor(medians, dtype=torch.double).view([len(axis) for axis in axes])
    for dim, axis in enumerate(block.axes):
        # A size within heads, and one of at least one unit, is never 0
        if axis.per is None and plan.sites[axis.site].at_least == 0:
            values = torch.cat([torch.zeros_like(values.narrow(dim, 0, 1)), values], dim)
            axes[dim] = [0, *axes[dim]]
    return Grid(tuple(tuple(map(float, axis)) for axis in axes), monotone(values))
