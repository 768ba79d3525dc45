"""Measure how long the parts of a model take on this machine, for pruning to a target in latency.

Random weights of the model's shapes are timed: attention by number of heads and their mean
query-key and value-output sizes, feed-forward layers by dimensions, CNN layers by channels in and
out, each at one unit, the quarters (within heads the half) and the whole. Layers of one shape share
a measurement. Models of random sizes show what the table's sums are worth. Other jobs on the
machine spoil it. The file goes into `pruning_conf: {cost: latency, latency_table: FILE}`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from espnet_prune.bin.measuring import add_machine, conditions_of, use_machine, write_report
from espnet_prune.cli import errors as cli
from espnet_prune.evaluate.report import table
from espnet_prune.structured.cost.block_times import CHECKS, measure
from espnet_prune.structured.cost.latency import LatencyTable
from espnet_prune.structured.encoder import random_encoder


def rows_of(found: LatencyTable) -> list[list[str]]:
    """Head and rows of the table of the largest size and the half (or what is nearest) of it."""
    rows = [["block", "whole", "ms", "half", "ms"]]
    for kind, grid in found.grids.items():
        places = [tuple(len(axis) - 1 for axis in grid.axes)]
        places.append(
            tuple(
                min(range(len(axis)), key=lambda n, axis=axis: abs(axis[n] - axis[-1] / 2))
                for axis in grid.axes
            )
        )
        row = [kind]
        for place in places:
            sizes = (axis[n] for axis, n in zip(grid.axes, place, strict=True))
            row += [" x ".join(f"{size:g}" for size in sizes)]
            row += [f"{1000 * float(grid.seconds[place]):.3f}"]
        rows.append(row)
    return rows


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--model", required=True, help="directory, hub name or file like config.json; no weights"
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument(
        "--seconds",
        type=float,
        help="length of an utterance; Whisper's window, and 10 for other models, when not given",
    )
    parser.add_argument("--batch", type=int, default=1, help="utterances at a time")
    parser.add_argument("--repeats", type=int, default=5, help="timed passes of each trial model")
    add_machine(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    for name in ("seconds", "batch", "repeats"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise ValueError(f"--{name} is {value}, but has to be above 0")
    dtype = use_machine(args)
    torch.manual_seed(0)
    dense = random_encoder(args.model).to(args.device, dtype)
    parameters = float(dense.plan().parameters()) / 1e6
    if args.seconds is None:
        args.seconds = dense.family_of.default_seconds(dense.config.base)
    words = f"{dense.family} with {parameters:.2f} M parameters ({args.model})"
    found = measure(dense, args.seconds, args.repeats, args.batch, words)
    found.table.conditions.update(conditions_of(args))
    errors = (found.predicted / found.measured - 1)[-CHECKS:]
    conditions = (
        f"{args.seconds:g} s of audio, batch {args.batch}, {args.dtype}, {args.device}, "
        f"{torch.get_num_threads()} threads, median of {args.repeats} passes of "
        f"{len(found.measured)} models in turn"
    )
    write_report(
        args.output,
        conditions,
        **found.table.to_json(),
        trials={"measured": found.measured.tolist(), "predicted": found.predicted.tolist()},
        checks=CHECKS,
    )
    print(
        table(rows_of(found.table)),
        f"\n{conditions}. Dense model {1000 * found.measured[0]:.1f} ms, of which "
        f"{1000 * found.table.rest:.1f} ms outside these blocks.",
        f"The table's sums against {CHECKS} models of random sizes that it was not made from: "
        f"median error {np.median(np.abs(errors)):.1%}, "
        f"{errors.min():+.1%} to {errors.max():+.1%}.",
        f"{args.output}: written",
        sep="\n",
    )


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
