"""One table of all tasks that were run with an encoder, and how each was run.

Beside the scores.json of a task lie `TESTED`, which names the trainings that were scored, and
`RUN`, which `write_results` writes.
"""

from __future__ import annotations

from pathlib import Path

from espnet_prune.evaluate import report
from espnet_prune.evaluate.report import SCORES, percent, read_metrics, table
from espnet_prune.evaluate.superb.learning_rate import RATES_FILE
from espnet_prune.evaluate.superb.score import TASKS
from espnet_prune.evaluate.superb.score_report import report_score
from espnet_prune.files.reading import read_config, read_lines, read_record
from espnet_prune.files.writing import write_json
from espnet_prune.structured import load_encoder

RUN = "run.json"  # beside scores.json: how it was made
TESTED = "tested"  # beside scores.json: the trainings that were scored, a directory a line


def write_results(
    results_dir: Path, task: str, upstream: str, seed: int = 0, command: str = ""
) -> str:
    """Write TASK/run.json, and RESULTS.md of all tasks that were scored; returns the table.

    With tasks of SUPERB, the score over them follows, and its files.

    Args:
        task: just run: its folder in `results_dir`.
        upstream: directory of the encoder.
    """
    folder = results_dir / task
    if not (folder / SCORES).is_file():
        raise FileNotFoundError(f"{folder / SCORES}: no such file; run the scoring first")
    parameters = float(load_encoder(upstream).plan().parameters()) / 1e6
    rates, sweeps = rates_of(folder)
    made = {"task": task, "upstream": upstream, "parameters_millions": parameters, "seed": seed}
    made |= {"command": command, "learning_rates": rates, "sweeps": sweeps}
    write_json(folder / RUN, made)
    rows, runs = rows_of(results_dir)
    encoder = f"Encoder: {upstream}, {parameters:.3f} M parameters, frozen."
    intervals = "Intervals: 95%, bootstrap over the test data."
    commands = "\n".join(f"- {each['task']}: `{each['command']}`" for each in runs)
    parts = ["# Results", f"{encoder}\n{intervals}", table(rows), "Made by:", commands]
    report.write_results(results_dir, parts)
    if not any((results_dir / each / SCORES).is_file() for each in TASKS):
        return table(rows)
    score = report_score(results_dir, parameters=float(f"{parameters:.4g}"))
    return f"{table(rows)}\n{score}"


def rates_of(folder: Path) -> tuple[list[float], list[dict]]:
    """The learning rate of each training of a folder of scores, one a fold, and the sweeps in which
    they were chosen; none for tasks without training (FileNotFoundError: there is no `TESTED`)."""
    rates, sweeps = [], []
    for training in map(Path, read_lines(folder / TESTED, "run the scoring again")):
        if not (training / "config.yaml").is_file():
            continue
        config = read_config(training / "config.yaml")
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
            row = [path.parent.name, name, percent(entry)]
            rows.append([*row, rates_text(run), str(run.get("seed", ""))])
    if len(rows) == 1:
        raise FileNotFoundError(f"{results_dir}: no TASK/{SCORES} in it; run the scoring first")
    return rows, runs
