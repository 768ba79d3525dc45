"""An encoder's SUPERB score beside those of published models: tables and a figure."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

from espnet_prune.evaluate.figures import panels, save_figure
from espnet_prune.evaluate.report import SCORES, percent, table
from espnet_prune.evaluate.superb.score import (
    METRICS,
    PUBLISHED,
    TASKS,
    SuperbScore,
    published_score,
    superb_score,
)
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_json, write_text

logger = logging.getLogger(__name__)

Figures = dict[str, dict[str, float]]  # metric -> value, and low and high where known
#: model -> parameters in millions, and MACs in 10^9 by the leaderboard's profiler
Sizes = Mapping[str, tuple[float | None, float | None]]


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


def report_score(
    results: Path | None = None,
    json: Path | None = None,
    name: str | None = None,
    parameters: float | None = None,
    macs: float | None = None,
    output_dir: Path | None = None,
) -> str:
    """Write superb_score.md, .json and .png; return the table, whose last line is the score.

    Tasks without figures are left out, for the published models, too.

    Args:
        results: directory of results; or else
        json: file with figures in percent; its name comes first in those of what is written.
        name: of the model; that of the directory or file if not given.
        parameters, macs: of the encoder, in millions and 10^9 (by the leaderboard's profiler).
        output_dir: the directory of results, or that of the file, if not given.
    Raises:
        FileNotFoundError, ValueError: no figures, or impossible ones; a size that is not positive;
            the name of a published model.
    """
    for option, size in (("--parameters", parameters), ("--macs", macs)):
        if size is not None and not 0 < size < float("inf"):
            raise ValueError(f"{option} {size:g}: must be positive")
    if json is not None:
        source, folder, stem, default = json, json.parent, f"{json.stem}_superb_score", json.stem
        figures = {metric: {"value": value} for metric, value in read_record(json).items()}
    else:
        assert results is not None
        source, folder, stem, default = results, results, "superb_score", results.resolve().name
        figures = read_results(results)
    folder, name = output_dir or folder, name or default
    if name in PUBLISHED:
        raise ValueError(f"'{name}' is the name of a published model; give another --name")
    try:
        result = superb_score({metric: entry["value"] for metric, entry in figures.items()})
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    published = {model: published_score(PUBLISHED[model], result.missing) for model in PUBLISHED}
    sizes: Sizes = {model: (entry.parameters, entry.macs) for model, entry in PUBLISHED.items()}
    sizes = {**sizes, name: (parameters, macs)}

    scored = f"{len(result.tasks)} of {len(TASKS)} tasks"
    parts = [f"# SUPERB score of {name}", "", table(_task_rows(figures, result)), ""]
    if result.missing:
        left_out = f"left out: {', '.join(result.missing)}"
        logger.warning("%s: scored over %s; %s", source, scored, left_out)
        parts += [f"Partial: over {scored} ({left_out}), for all models below.", ""]
    rows = [["model", "parameters (M)", "MACs (G)", "score"]]
    models = sorted([*published.items(), (name, result.score)], key=lambda item: -item[1])
    for model, score in models:
        known = ["-" if size is None else f"{size:g}" for size in sizes[model]]
        rows.append([model, *known, f"{score:.0f}"])
    parts += [f"SUPERB score over {scored}: {result.score:.1f}", "", table(rows), ""]
    write_text(folder / f"{stem}.md", "\n".join([*parts, f"![score against size]({stem}.png)", ""]))
    summary = {"name": name, "parameters_millions": parameters, "macs_giga": macs}
    summary |= {"figures": figures, **dataclasses.asdict(result), "published": published}
    write_json(folder / f"{stem}.json", summary)
    plot_score(name, result.score, published, sizes, folder / f"{stem}.png")
    return "\n".join([*parts, f"{result.score:.1f}"])


def _task_rows(figures: Figures, result: SuperbScore) -> list[list[str]]:
    figure = "figure [95%]" if any("low" in entry for entry in figures.values()) else "figure"
    rows = [["task", "metric", figure, "FBANK", "SOTA", "score of the task"]]
    for name, metric in METRICS.items():
        if name in figures:
            row = [metric.task, metric.title, percent(figures[name], scale=1)]
            row += [f"{metric.fbank:.2f}", f"{metric.sota:.2f}"]
            rows.append([*row, f"{result.tasks[metric.task]:.0f}"])
    return rows


def plot_score(
    name: str, score: float, published: Mapping[str, float], sizes: Sizes, path: Path
) -> None:
    """One panel for parameters, one for MACs: published models as points, the scored one as star.

    Where the size of the scored model is not known, its score is a dashed line.

    Args:
        published: published model -> its score over the same tasks.
    """
    figure, axes = panels(2, 6, 4.2)
    gap = 0.04 * (max(published.values()) - min(published.values()))
    labels = "parameters (M)", "MACs (G, leaderboard's profiler)"
    for number, (axis, label) in enumerate(zip(axes, labels, strict=True)):
        known = {m: sizes[m][number] for m in published if sizes[m][number] is not None}
        axis.scatter(known.values(), [published[m] for m in known], color="0.5", s=25)
        middle = sum(known.values()) / len(known)
        for right in (False, True):
            # Names stand towards the middle, so that they stay inside the axes.
            side = {m: published[m] for m in known if (known[m] > middle) == right}
            for model, height in _spread(side, gap).items():
                place = (known[model] + (-0.05 if right else 0.05) * middle, height)
                look = {"ha": "right" if right else "left", "va": "center", "fontsize": 7}
                axis.annotate(model, (known[model], published[model]), place, **look)
        size = sizes[name][number]
        if size is None:
            axis.axhline(score, color="tab:blue", ls="--", lw=1, label=f"{name} (size not given)")
        else:
            axis.scatter([size], [score], color="tab:blue", marker="*", s=120, label=name)
        axis.set(xlabel=label, ylabel="SUPERB score")
        axis.set_xlim(left=0)
        axis.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    save_figure(figure, path)


def _spread(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """The heights, from the lowest up, raised where they are nearer than `gap` to the one below."""
    spread, below = {}, -float("inf")
    for name in sorted(heights, key=heights.__getitem__):
        below = spread[name] = max(heights[name], below + gap)
    return spread
