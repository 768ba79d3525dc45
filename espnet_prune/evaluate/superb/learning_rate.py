"""The learning rate of a probe: the best of a sweep on validation data, in one fold or over all."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_prune.files.reading import read_config, read_record
from espnet_prune.files.writing import write_file, write_json

logger = logging.getLogger(__name__)

RATES_FILE = "learning_rates.json"


def _best(values: Mapping, mode: str):
    """Key of the greatest or the least value (`mode` max or min); of equals the first one."""
    return (max if mode == "max" else min)(values, key=values.__getitem__)


def best_value(train_dir: str | Path, statistic: str, mode: str) -> tuple[int, float]:
    """The best epoch of an ESPnet training on its validation data, and its value there, by a
    statistic such as "acc" and a mode, "max" or "min".

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the statistic is not in it, or never was a number.
    """
    from espnet_prune.structured.tensor_files import load_pickled, plain_values

    path = Path(train_dir) / "checkpoint.pth"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; has the training ended?")
    state = load_pickled(path, plain_values(), mmap=True)
    stats = {epoch: parts.get("valid", {}) for epoch, parts in state["reporter"]["stats"].items()}
    values = {epoch: float(valid.get(statistic, math.nan)) for epoch, valid in stats.items()}
    values = {epoch: value for epoch, value in values.items() if math.isfinite(value)}
    if not values:
        raise ValueError(f"{path}: has no number valid.{statistic}")
    best = _best(values, mode)
    return best, values[best]


def choose(train_dirs: Sequence[str | Path], criterion: str, link: Path) -> str:
    """Make `link` point to the training that is best on its validation data; returns a line.

    ``learning_rates.json`` beside `link` has the value of each. Of equals the first one is taken.

    Args:
        train_dirs: ESPnet trainings that differ in the learning rate alone; errors of `best_value`
            only if all have them.
        criterion: statistic and mode, such as "acc.max" (ValueError: anything else).
    """
    statistic, _, mode = criterion.rpartition(".")
    if not statistic or mode not in ("min", "max"):
        raise ValueError(f"--criterion {criterion}: give one such as acc.max or loss.min")
    rows, values, failures = [], {}, []
    for number, train_dir in enumerate(map(Path, train_dirs)):
        config = read_config(train_dir / "config.yaml")
        rows.append({"train_dir": train_dir.name, "lr": config["optim_conf"].get("lr")})
        try:
            epoch, values[number] = best_value(train_dir, statistic, mode)
            rows[-1] |= {"epoch": epoch, f"valid.{statistic}": values[number]}
        except ValueError as error:  # it diverged
            logger.warning("%s", error)
            failures.append(error)
    if not values:
        raise failures[0]
    best, file = rows[_best(values, mode)], link.with_name(RATES_FILE)
    record = {"criterion": f"valid.{criterion}", "chosen": best["lr"], "trainings": rows}
    write_json(file, record)
    write_file(link, lambda temporary: temporary.symlink_to(best["train_dir"]), sync=False)
    return f"{link.with_name(best['train_dir'])}: the best by valid.{criterion}, see {file}"


def common_rate(exp: Sequence[Path], output: Path) -> str:
    """Put together what `superb choose` has written of each fold; returns the chosen rate.

    A rate with which a fold's training diverged is out; of equals the first one is taken. `output`
    gets ``criterion``, ``chosen``, and ``means`` (rate -> mean value on the validation data).

    Args:
        exp: experiments, with ``learning_rates.json`` of every fold somewhere below.
    Raises:
        ValueError: no such file, a damaged one, folds of different criteria or rates, or no rate
            that did not diverge.
    """
    files = [file for folder in exp for file in sorted(folder.glob(f"**/{RATES_FILE}"))]
    if not files:
        raise ValueError(f"no {RATES_FILE}: run the sweep first")
    sweeps = [read_record(file, ("criterion", "trainings")) for file in files]
    first = None
    for file, sweep in zip(files, sweeps, strict=True):
        rows = sweep["trainings"]
        if not isinstance(rows, list) or not all(isinstance(r, dict) and "lr" in r for r in rows):
            raise ValueError(f"{file}: a training without 'lr'; run the sweep again")
        tried = sweep["criterion"], [row["lr"] for row in rows]
        first = first or tried
        if tried != first:
            raise ValueError(f"{file}: has another criterion or other rates than {files[0]}")
    criterion, rates = first
    name, _, mode = criterion.rpartition(".")
    means = {}
    for place, rate in enumerate(rates):
        values = [sweep["trainings"][place].get(name) for sweep in sweeps]
        if None not in values:
            means[rate] = statistics.mean(values)
    if not means:
        raise ValueError(f"{files[0]}: with none of the rates all trainings had a {criterion}")
    best = _best(means, mode)
    write_json(output, {"criterion": criterion, "chosen": best, "means": means})
    return f"{best:g}"
