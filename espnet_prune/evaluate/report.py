"""Reports: Markdown tables and scores.json.

scores.json holds ``metrics`` (name -> value, low and high; fractions, with the ends of the 95%
bootstrap interval) beside what else the scorer has to tell. `superb score` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from espnet_prune.evaluate.metrics.bootstrap import Estimate
from espnet_prune.evaluate.metrics.error_rate import ErrorRate
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_json

SCORES = "scores.json"


def table(rows: list[list[str]]) -> str:
    """A Markdown table whose first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def metric(estimate: Estimate | ErrorRate) -> dict[str, float]:
    """An entry of ``metrics`` in scores.json."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def percent(entry: Mapping[str, float], scale: float = 100, digits: int = 2) -> str:
    """An entry of ``metrics`` times `scale` as "value [low, high]", or "value" if that is all."""
    keys = ("value", "low", "high") if "low" in entry and "high" in entry else ("value",)
    value, *ends = (f"{scale * entry[key]:.{digits}f}" for key in keys)
    return f"{value} [{', '.join(ends)}]" if ends else value


def write_scores(output_dir: Path, metrics: Mapping[str, dict[str, float]], **details) -> str:
    """Write scores.json; returns a table of the metrics in percent."""
    write_json(output_dir / SCORES, {"metrics": metrics, **details})
    rows = [["metric", "% [95%]"], *([name, percent(entry)] for name, entry in metrics.items())]
    return table(rows)


def read_metrics(path: Path) -> dict[str, dict[str, float]]:
    """The ``metrics`` of a scores.json.

    Raises:
        FileNotFoundError, ValueError: no such file, or not what `write_scores` writes.
    """
    metrics = read_record(path, ("metrics",))["metrics"]
    for name, entry in metrics.items() if isinstance(metrics, dict) else [("metrics", None)]:
        if not isinstance(entry, dict) or not {"value", "low", "high"} <= entry.keys():
            raise ValueError(f"{path}: {name} has no value, low and high; run the scoring again")
    return metrics
