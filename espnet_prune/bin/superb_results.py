"""The last stage of SUPERB's recipes: one table of all tasks that were run with an encoder.

RESULTS/RESULTS.md has each TASK/scores.json of the directory, with the learning rates of the
trainings that were scored (their directories are in TASK/tested), the commands and the machine.
With tasks of SUPERB, the score over them follows (espnet_prune.bin.superb_score).
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import yaml

from espnet_prune.bin import superb_score
from espnet_prune.cli import errors as cli
from espnet_prune.evaluate.environment import environment_report
from espnet_prune.evaluate.report import SCORES, read_metrics, table
from espnet_prune.evaluate.superb.preparation import RATES_FILE
from espnet_prune.evaluate.superb.score import TASKS
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_text
from espnet_prune.structured import load_encoder

RUN = "run.json"  # beside scores.json: how it was made
TESTED = "tested"  # beside scores.json: the trainings that were scored, a directory a line


def trainings_of(folder: Path) -> list[Path]:
    """The trainings whose predictions were scored, one a fold; none for tasks without training.

    Args:
        folder: with the scores of a task.
    Raises:
        FileNotFoundError: it is not known which they are.
    """
    path = folder / TESTED
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; run the scoring again")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Path(line) for line in lines if (Path(line) / "config.yaml").is_file()]


def rates_of(trainings: list[Path]) -> tuple[list[float], list[dict]]:
    """The learning rate of each training, and the sweeps in which they were chosen."""
    rates, sweeps = [], []
    for training in trainings:
        config = yaml.safe_load((training / "config.yaml").read_text(encoding="utf-8"))
        if "lr" in config["optim_conf"]:
            rates.append(float(config["optim_conf"]["lr"]))
        file = training.with_name(RATES_FILE)
        if file.is_file():
            sweep = read_record(file, ("chosen", "trainings"))
            tried = {row["train_dir"]: row["lr"] for row in sweep["trainings"]}
            if tried.get(training.name) == sweep["chosen"]:
                sweeps.append(sweep)
    return rates, sweeps


def rates_text(run: dict) -> str:
    """The learning rates of a run in words, nothing where none is known."""
    chosen = {sweep["chosen"] for sweep in run.get("sweeps", [])}
    rates = sorted(set(run.get("learning_rates", [])))
    return ", ".join(f"{rate:g}{' (chosen)' if rate in chosen else ''}" for rate in rates)


def rows_of(results_dir: Path) -> tuple[list[list[str]], list[dict]]:
    """Head and rows of the table, and the runs behind them."""
    rows = [["task", "metric", "% [95%]", "learning rate", "seed"]]
    runs = []
    for path in sorted(results_dir.glob(f"*/{SCORES}")):
        run_file = path.with_name(RUN)
        run = read_record(run_file, ("task", "command")) if run_file.is_file() else {}
        if run:
            runs.append(run)
        for name, entry in read_metrics(path).items():
            value, low, high = (100 * entry[key] for key in ("value", "low", "high"))
            rows.append([path.parent.name, name, f"{value:.2f} [{low:.2f}, {high:.2f}]"])
            rows[-1] += [rates_text(run), str(run.get("seed", ""))]
    if len(rows) == 1:
        raise FileNotFoundError(f"{results_dir}: no TASK/{SCORES} in it; run the scoring first")
    return rows, runs


def run(args: argparse.Namespace) -> None:
    folder = args.results_dir / args.task
    if not (folder / SCORES).is_file():
        raise FileNotFoundError(f"{folder / SCORES}: no such file; run the scoring first")
    encoder = load_encoder(args.upstream)
    parameters = float(encoder.plan().parameters()) / 1e6
    rates, sweeps = rates_of(trainings_of(folder))
    made = {
        "task": args.task,
        "upstream": args.upstream,
        "parameters_millions": parameters,
        "seed": args.seed,
        "command": args.command,
        "learning_rates": rates,
        "sweeps": sweeps,
    }
    write_text(folder / RUN, json.dumps(made, indent=2) + "\n")
    rows, runs = rows_of(args.results_dir)
    parts = ["# Results", "", f"Encoder: {args.upstream}, {parameters:.3f} M parameters, frozen."]
    parts += ["Intervals: 95%, bootstrap over the test data.", "", table(rows), "", "Made by:", ""]
    parts += [f"- {each['task']}: `{each['command']}`" for each in runs]
    parts += ["", environment_report()]
    write_text(args.results_dir / "RESULTS.md", "\n".join(parts))
    print(table(rows))
    if any((args.results_dir / task / SCORES).is_file() for task in TASKS):
        superb_score.main([str(args.results_dir), "--parameters", f"{parameters:.4g}"])


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results_dir", type=Path, required=True, help="gets RESULTS.md")
    parser.add_argument("--task", required=True, help="that was run: its folder in --results_dir")
    parser.add_argument("--upstream", required=True, help="directory of the encoder")
    parser.add_argument("--seed", type=int, default=0, help="of the probe")
    parser.add_argument("--command", default="", help="that ran the task")
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
