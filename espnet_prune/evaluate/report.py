"""Reports: Markdown tables, RESULTS.md and scores.json.

scores.json holds ``metrics`` (name -> value, low and high; fractions, with the ends of the 95%
bootstrap interval) beside what else the scorer has to tell. `superb score` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from espnet_prune.evaluate.environment import environment_report
from espnet_prune.evaluate.metrics.bootstrap import Estimate
from espnet_prune.evaluate.metrics.error_rate import ErrorRate
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_json, write_text

SCORES = "scores.json"


def table(rows: list[list[str]]) -> str:
    """A Markdown table whose first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def with_interval(
    value: float, low: float, high: float, scale: float = 100, digits: int = 1, sign: str = ""
) -> str:
    """As "value [low, high]", times `scale`; with the sign "+" what is positive has one, too."""
    value, low, high = (f"{scale * number:{sign}.{digits}f}" for number in (value, low, high))
    return f"{value} [{low}, {high}]"


def percent(entry: Mapping[str, float], scale: float = 100, digits: int = 2) -> str:
    """An entry of ``metrics`` as `with_interval`, or as "value" if that is all."""
    if "low" in entry and "high" in entry:
        return with_interval(entry["value"], entry["low"], entry["high"], scale, digits)
    return f"{scale * entry['value']:.{digits}f}"


def write_results(folder: Path, paragraphs: Iterable[str]) -> str:
    """Write RESULTS.md, with the environment as its last paragraph; returns its text."""
    text = "\n\n".join([*paragraphs, environment_report()])
    write_text(folder / "RESULTS.md", text)
    return text


def metric(estimate: Estimate | ErrorRate) -> dict[str, float]:
    """An entry of ``metrics`` in scores.json."""
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def write_scores(output_dir: Path, metrics: Mapping[str, Estimate | ErrorRate], **details) -> str:
    """Write scores.json; returns a table of the metrics in percent."""
    entries = {name: metric(estimate) for name, estimate in metrics.items()}
    write_json(output_dir / SCORES, {"metrics": entries, **details})
    return table([["metric", "% [95%]"], *([name, percent(e)] for name, e in entries.items())])


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
