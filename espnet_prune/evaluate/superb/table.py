"""One table of several encoders over the same tasks, and a plot against their parameters."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path

from espnet_prune.evaluate.figures import panels, save_figure
from espnet_prune.evaluate.report import SCORES, percent, read_metrics, table, write_results
from espnet_prune.evaluate.superb.results import RUN
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_json

ENTRY = ("value", "low", "high")


@dataclass
class Encoder:
    """An encoder's scores.

    Attributes:
        parameters: in millions.
        scores: "TASK metric" -> seed of the probe -> value, low and high, as fractions.
        rates: task -> learning rates of its probes, of all seeds and folds; none if not recorded.
    """

    name: str
    parameters: float
    scores: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    rates: dict[str, set[float]] = field(default_factory=dict)

    def mean(self, column: str) -> dict[str, float]:
        """Value, low and high over seeds, as fractions."""
        seeds = self.scores[column].values()
        return {key: statistics.mean(score[key] for score in seeds) for key in ENTRY}

    def cell(self, column: str) -> str:
        """Mean, interval, and the least and greatest of the seeds, in percent."""
        text = percent(self.mean(column), digits=1)
        seeds = sorted(100 * score["value"] for score in self.scores[column].values())
        return f"{text} ({seeds[0]:.1f} to {seeds[-1]:.1f})" if len(seeds) > 1 else text

    def to_json(self) -> dict:
        scores = {}
        for column, seeds in self.scores.items():
            mean = self.mean(column)
            each = {str(seed): score for seed, score in sorted(seeds.items())}
            scores[column] = {"mean": mean.pop("value"), **mean, "seeds": each}
        rates = {task: sorted(rates) for task, rates in self.rates.items()}
        size = {"name": self.name, "parameters_millions": self.parameters}
        return {**size, "learning_rates": rates, "scores": scores}


def read_encoder(name: str, results_dirs: list[Path], tasks: list[str]) -> Encoder:
    """What results directories of one encoder hold of `tasks`; a directory may lack some.

    Raises:
        FileNotFoundError: a task is in none of them, or scores without the record of their run.
        ValueError: a damaged file, encoders of different sizes, or a seed twice.
    """
    if not results_dirs:
        raise ValueError(f"--encoder {name}: give its results directories, too")
    encoder = Encoder(name, 0.0)
    for task in tasks:
        folders = [folder / task for folder in results_dirs if (folder / task / SCORES).is_file()]
        if not folders:
            path = results_dirs[0] / task / SCORES
            raise FileNotFoundError(f"{path}: no such file; run {task} with it first")
        for folder in folders:
            hint = "run the last stage again"
            run = read_record(folder / RUN, ("parameters_millions", "seed"), hint)
            encoder.rates.setdefault(task, set()).update(run.get("learning_rates", []))
            size = run["parameters_millions"]
            encoder.parameters = encoder.parameters or size
            if size != encoder.parameters:
                raise ValueError(
                    f"{folder / RUN}: the encoder has {size:g} M parameters, but that of other "
                    f"results of {name} has {encoder.parameters:g} M"
                )
            for metric, score in read_metrics(folder / SCORES).items():
                seeds = encoder.scores.setdefault(f"{task} {metric}", {})
                if run["seed"] in seeds:
                    raise ValueError(f"{folder}: another run of {task} with seed {run['seed']}")
                seeds[run["seed"]] = {key: score[key] for key in ENTRY}
    return encoder


def rates_note(encoders: list[Encoder], tasks: list[str]) -> str:
    """The learning rates that the probes of each task were trained with."""
    parts = []
    for task in tasks:
        by_rates: dict[str, list[str]] = {}
        for encoder in encoders:
            rates = ", ".join(f"{rate:g}" for rate in sorted(encoder.rates[task]))
            by_rates.setdefault(rates or "not recorded", []).append(encoder.name)
        each = [f"{rates} ({', '.join(names)})" for rates, names in by_rates.items()]
        parts.append(f"{task} {', '.join(each if len(each) > 1 else by_rates)}")
    return f"Learning rates of the probes: {'; '.join(parts)}."


def rows_of(encoders: list[Encoder]) -> list[list[str]]:
    """Head and rows of the table, with the metrics of the first encoder (ValueError: another one
    lacks one of them)."""
    columns = list(encoders[0].scores)
    rows = [["encoder", "parameters (M)", *(f"{column} %" for column in columns)]]
    for encoder in encoders:
        for column in columns:
            if column not in encoder.scores:
                raise ValueError(
                    f"{encoder.name}: its results have no '{column}', but those of "
                    f"{encoders[0].name} have; score {column.partition(' ')[0]} with it again"
                )
        cells = [encoder.cell(column) for column in columns]
        rows.append([encoder.name, f"{encoder.parameters:.3f}", *cells])
    return rows


def plot(encoders: list[Encoder], path: Path) -> None:
    """A panel for the first metric of each task; bars are the bootstrap intervals."""
    columns: dict[str, str] = {}
    for column in encoders[0].scores:
        columns.setdefault(column.partition(" ")[0], column)
    figure, axes = panels(len(columns), 4, 3.6)
    for axis, column in zip(axes, columns.values(), strict=True):
        for encoder in encoders:
            value, low, high = (100 * number for number in encoder.mean(column).values())
            bars = [[max(value - low, 0)], [max(high - value, 0)]]
            axis.errorbar([encoder.parameters], [value], bars, fmt="o", ms=4, capsize=2)
            beside = {"xytext": (4, 4), "textcoords": "offset points", "fontsize": 7}
            axis.annotate(encoder.name, (encoder.parameters, value), **beside)
        axis.set(xlabel="parameters (M)", ylabel=f"{column} %")
        axis.margins(x=0.2)
    save_figure(figure, path)


def write_table(
    encoder: list[list[str]], tasks: list[str], output_dir: Path, command: str, note: list[str]
) -> str:
    """Write RESULTS.md, results.json and results.png; returns the table.

    Args:
        encoder: name and results directories, one a seed of the probes, for each row.
        tasks: columns: folders in the results directories.
        command: that ran all this.
        note: lines below the table.
    Raises:
        FileNotFoundError, ValueError: results are missing or do not belong together.
    """
    found = [read_encoder(name, list(map(Path, folders)), tasks) for name, *folders in encoder]
    rows = rows_of(found)
    ends = "In []: 95%, bootstrap over the test data (mean over seeds); in (): over seeds."
    parts = ["# Results", table(rows), ends, rates_note(found, tasks), *note]
    if command:
        parts.append(f"Made by `{command}`.")
    plot(found, output_dir / "results.png")
    record = {"encoders": [encoder.to_json() for encoder in found]}
    write_json(output_dir / "results.json", {**record, "command": command, "notes": note})
    write_results(output_dir, [*parts, "![scores against parameters](results.png)"])
    return table(rows)
