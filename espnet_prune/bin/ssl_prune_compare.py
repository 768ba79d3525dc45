"""Plot exact sparsity and distillation loss over updates of several prune-and-distil runs.

The table has the means of the last updates, e.g. to compare training with and without the
straight-through estimator.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_prune.cli import errors as cli
from espnet_prune.evaluate.plots import plot_compare
from espnet_prune.evaluate.report import table
from espnet_prune.plugin.trainer import HISTORY, read_history


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--run",
        nargs=2,
        action="append",
        required=True,
        metavar=("NAME", "DIR"),
        help="name in the plot and training directory of a run with gates",
    )
    parser.add_argument("--last", type=int, default=25, help="updates to take the means over")
    parser.add_argument("--output", type=Path, required=True, help="PNG file to write")
    return parser


def run(args: argparse.Namespace) -> None:
    keys = ("sparsity_expected", "sparsity_exact", "distill")
    runs, rows = {}, [["run", "updates", *keys]]
    for name, directory in args.run:
        history = read_history(Path(directory) / HISTORY)
        if not history or keys[0] not in history[-1]:
            raise ValueError(f"{directory}/{HISTORY}: missing, or of a run without gates")
        runs[name] = history
        tail = history[-args.last :]
        means = [sum(row[key] for row in tail) / len(tail) for key in keys]
        rows.append([name, str(len(history)), *(f"{mean:.4f}" for mean in means)])
    plot_compare(runs, args.output)
    print(table(rows))


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
