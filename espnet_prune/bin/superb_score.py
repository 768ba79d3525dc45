"""The SUPERB score of an encoder: table, score and plots against published models.

Figures come from the folders of a results directory, each as a scorer wrote it
(RESULTS/PR/scores.json, …), or from a JSON file in the leaderboard's units, such as
{"PR": 8.22, "ASR": 10.19, "SF-F1": 87.68, "SF-CER": 26.11}. Tasks without figures are left out,
for the published models, too. The last line printed is the score.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path

from espnet_prune.cli import errors as cli
from espnet_prune.evaluate.report import SCORES, table
from espnet_prune.evaluate.superb.score import (
    METRICS,
    PUBLISHED,
    TASKS,
    SuperbScore,
    published_score,
    superb_score,
)
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_text

logger = logging.getLogger(__name__)

Figures = dict[str, dict[str, float]]  # metric -> value, and low and high where known


def read_json(path: Path) -> Figures:
    """Figures of a file with metric -> value."""
    return {name: {"value": value} for name, value in read_record(path).items()}


def read_results(folder: Path) -> Figures:
    """Figures of the tasks' folders, as percentages; a task without scores.json is left out."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such directory")
    figures: Figures = {}
    for name, metric in METRICS.items():
        path = folder / metric.task / SCORES
        if not path.is_file():
            continue
        metrics = read_record(path).get("metrics")
        entry = metrics.get(metric.measure) if isinstance(metrics, dict) else None
        if not isinstance(entry, dict) or not isinstance(entry.get("value"), int | float):
            raise ValueError(f"{path}: has no metric '{metric.measure}'; score {name} again")
        figures[name] = {key: 100 * entry[key] for key in ("value", "low", "high") if key in entry}
    if not figures:
        paths = ", ".join(f"{task}/{SCORES}" for task in TASKS)
        raise FileNotFoundError(f"{folder}: has no results; expected are {paths}")
    return figures


def task_rows(figures: Figures, result: SuperbScore) -> list[list[str]]:
    figure = "figure [95%]" if any("low" in entry for entry in figures.values()) else "figure"
    rows = [["task", "metric", figure, "FBANK", "SOTA", "score of the task"]]
    for name, metric in METRICS.items():
        if name not in figures:
            continue
        entry = figures[name]
        figure = f"{entry['value']:.2f}"
        if "low" in entry and "high" in entry:
            figure += f" [{entry['low']:.2f}, {entry['high']:.2f}]"
        ends = [f"{metric.fbank:.2f}", f"{metric.sota:.2f}"]
        rows.append([metric.task, metric.title, figure, *ends, f"{result.tasks[metric.task]:.0f}"])
    return rows


def model_rows(models: dict[str, tuple[float | None, float | None, float]]) -> list[list[str]]:
    rows = [["model", "parameters (M)", "MACs (G)", "score"]]
    for name, (parameters, macs, score) in sorted(models.items(), key=lambda item: -item[1][2]):
        sizes = ["-" if size is None else f"{size:g}" for size in (parameters, macs)]
        rows.append([name, *sizes, f"{score:.0f}"])
    return rows


def run(args: argparse.Namespace) -> None:
    for option, value in (("--parameters", args.parameters), ("--macs", args.macs)):
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{option} {value:g}: must be positive")
    if args.json:
        source, folder, stem = args.json, args.json.parent, f"{args.json.stem}_superb_score"
        name, figures = args.json.stem, read_json(args.json)
    else:
        source, folder, stem = args.results, args.results, "superb_score"
        name, figures = args.results.resolve().name, read_results(args.results)
    folder, name = args.output_dir or folder, args.name or name
    if name in PUBLISHED:
        raise ValueError(f"'{name}' is the name of a published model; give another --name")
    try:
        result = superb_score({metric: entry["value"] for metric, entry in figures.items()})
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    published = {model: published_score(PUBLISHED[model], result.missing) for model in PUBLISHED}
    models = {
        model: (entry.parameters, entry.macs, published[model])
        for model, entry in PUBLISHED.items()
    }
    models[name] = (args.parameters, args.macs, result.score)

    scored = f"{len(result.tasks)} of {len(TASKS)} tasks"
    parts = [f"# SUPERB score of {name}", "", table(task_rows(figures, result)), ""]
    if result.missing:
        left_out = f"left out: {', '.join(result.missing)}"
        logger.warning("%s: scored over %s; %s", source, scored, left_out)
        parts += [f"Partial: over {scored} ({left_out}), for all models below.", ""]
    parts += [f"SUPERB score over {scored}: {result.score:.1f}", "", table(model_rows(models)), ""]
    parts += [f"![score against size]({stem}.png)", ""]
    summary = {
        "name": name,
        "parameters_millions": args.parameters,
        "macs_giga": args.macs,
        "figures": figures,
        **dataclasses.asdict(result),
        "published": published,
    }
    from espnet_prune.evaluate.superb.plot import plot_superb  # matplotlib takes its time

    write_text(folder / f"{stem}.md", "\n".join(parts))
    write_text(folder / f"{stem}.json", json.dumps(summary, indent=2) + "\n")
    plot_superb(name, result.score, args.parameters, args.macs, published, folder / f"{stem}.png")
    print("\n".join(parts[:-2]))
    print(f"{result.score:.1f}")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "results", type=Path, nargs="?", help=f"directory with TASK/{SCORES} ({', '.join(TASKS)})"
    )
    source.add_argument(
        "--json", type=Path, metavar="FILE", help=f"figures in percent: {', '.join(METRICS)}"
    )
    parser.add_argument("--name", help="of the model; default: that of the directory or file")
    parser.add_argument("--parameters", type=float, help="of the encoder, in millions")
    parser.add_argument(
        "--macs",
        type=float,
        help="of the encoder, in 10^9, as the leaderboard's profiler counts (WavLM Base+: 1670)",
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        help="for superb_score.md, .json and .png; default: the directory of results, or that of "
        "FILE, whose name then comes before (FILE_superb_score.md)",
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
