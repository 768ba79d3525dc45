"""The learning rate that is best over all folds of a sweep, on their validation data.

python -m espnet_prune.evaluate.superb.common_rate EXP [EXP ...] --output FILE
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_prune.evaluate.superb.preparation import RATES_FILE
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_text


def common_rate(files: Sequence[str | Path]) -> dict:
    """What `superb choose` has written of each fold, put together.

    A rate with which a fold's training diverged is out; of equals the first one is taken.

    Args:
        files: ``learning_rates.json`` of every fold.
    Returns: ``criterion``, ``chosen``, and ``means`` (rate -> mean value on the validation data).
    Raises:
        ValueError: no file, a damaged one, folds of different criteria or rates, or no rate that
            did not diverge.
    """
    if not files:
        raise ValueError(f"no {RATES_FILE}: run the sweep first")
    sweeps = [read_record(file, ("criterion", "trainings")) for file in files]
    rates = []
    for file, sweep in zip(files, sweeps, strict=True):
        rows = sweep["trainings"]
        if not isinstance(rows, list) or not all(isinstance(r, dict) and "lr" in r for r in rows):
            raise ValueError(f"{file}: a training without 'lr'; run the sweep again")
        rates.append([row["lr"] for row in rows])
    criterion = sweeps[0]["criterion"]
    for file, sweep, own in zip(files, sweeps, rates, strict=True):
        if sweep["criterion"] != criterion or own != rates[0]:
            raise ValueError(f"{file}: has another criterion or other rates than {files[0]}")
    name, _, mode = criterion.rpartition(".")
    means = {}
    for place, rate in enumerate(rates[0]):
        values = [sweep["trainings"][place].get(name) for sweep in sweeps]
        if None not in values:
            means[rate] = statistics.mean(values)
    if not means:
        raise ValueError(f"{files[0]}: with none of the rates all trainings had a {criterion}")
    best = (max if mode == "max" else min)(means, key=means.__getitem__)
    return {"criterion": criterion, "chosen": best, "means": means}


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet_prune.evaluate.superb.common_rate",
        description=__doc__.split("\n\n")[0],
    )
    parser.add_argument("exp", type=Path, nargs="+", help="experiments of superb.sh with a sweep")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = get_parser().parse_args(argv)
    files = [file for exp in args.exp for file in sorted(exp.glob(f"**/{RATES_FILE}"))]
    try:
        record = common_rate(files)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_text(args.output, json.dumps(record, indent=2) + "\n")
    print(f"{record['chosen']:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
