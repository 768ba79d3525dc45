#!/usr/bin/env python3
"""Draw the figure of the README from the tables in the RESULTS.md files.

usage: tools/venv/bin/python tools/results_figure.py [output.png]     (docs/images/results.png)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHISPER = ROOT / "egs2/voice_prompts/ssl_prune1/RESULTS.md"
SPIRAL = ROOT / "egs2/spiral/sir1/RESULTS.md"
OUTPUT = ROOT / "docs/images/results.png"
#: of an error rate, in percent
TICKS = (5, 10, 20, 50, 100, 300)
Row = dict[str, str]


def read_table(path: Path, first_column: str) -> dict[str, Row]:
    """The Markdown table whose first column has this title.

    Returns: first cell -> title of a column -> cell.
    Raises:
        ValueError: no such table.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    heads = [
        n for n, line in enumerate(lines) if line[:1] == "|" and _cells(line)[0] == first_column
    ]
    if not heads:
        raise ValueError(f"{path}: no table whose first column is '{first_column}'")
    titles, table = _cells(lines[heads[0]]), {}
    for line in lines[heads[0] + 2 :]:
        if not line.startswith("|"):
            break
        cells = _cells(line)
        table[cells[0]] = dict(zip(titles, cells, strict=True))
    return table


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def value(cell: str) -> tuple[float, float, float]:
    """Value and 95% interval of a cell such as `92.5 [91.4, 93.6] (91.6 to 93.0)`."""
    number = r"(\d+(?:\.\d+)?)"
    match = re.match(rf"{number} \[{number}, {number}\]", cell)
    if match is None:
        raise ValueError(f"'{cell}' is no value with an interval")
    middle, low, high = map(float, match.groups())
    return middle, low, high


def encoders(column: str) -> dict[str, list[tuple[float, float, float, float]]]:
    """Curve -> points (M parameters, WER, low, high) of pruned encoders on a test set."""
    table = read_table(WHISPER, "WER %")
    curves = {}
    for curve in ("one shot and distillation", "one shot alone", "random and distillation"):
        names = ["dense", *(name for name in table if name.startswith(f"{curve}, "))]
        curves[curve] = [
            (float(table[n]["parameters (M)"]), *value(table[n][column])) for n in names
        ]
    return curves


def tokens() -> dict[str, list[tuple[float, float, float, float]]]:
    """Strategy -> points (audio tokens, accuracy by PMI, low, high) on SPIRAL."""
    table = read_table(SPIRAL, "by PMI %")
    curves = {}
    for strategy, row in table.items():
        columns = [title for title in row if title != "by PMI %"]
        numbers = [float(re.match(r"\d+", title)[0]) for title in columns]
        curves[strategy] = [(n, *value(row[c])) for n, c in zip(numbers, columns, strict=True)]
    return curves


def bounds() -> dict[str, float]:
    """Condition -> accuracy by PMI of the conditions without pruning."""
    table = read_table(SPIRAL, "")
    title = "accuracy by PMI % [95%]"
    return {name: value(table[name][title])[0] for name in ("whole recording", "first 30 s")}


def draw(output: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axis, column, name in (
        (axes[0], "test_en", "the voice of the prompts: WER (%)"),
        (axes[1], "test_joe", "a voice that no training has heard: WER (%)"),
    ):
        for curve, points in encoders(column).items():
            _curve(axis, curve, points)
        axis.set_yscale("log")
        axis.set_yticks(TICKS, [str(tick) for tick in TICKS])
        axis.minorticks_off()
        axis.set_ylim(3, 2000)
        axis.set_xlabel("encoder parameters (M)")
        axis.set_title(name, fontsize=9)
        axis.legend(frameon=False, fontsize=7, loc="upper right")
    for strategy, points in tokens().items():
        _curve(axes[2], "random tokens" if strategy == "rap" else strategy, points)
    for (name, height), style in zip(bounds().items(), ("--", ":"), strict=True):
        axes[2].axhline(height, color="grey", linestyle=style, linewidth=1, label=name)
    axes[2].set_xlabel("audio tokens that are kept")
    axes[2].set_title("SPIRAL (200 items): accuracy by PMI (%)", fontsize=9)
    axes[2].legend(frameon=False, fontsize=7, ncols=2, loc="upper left")
    axes[2].set_ylim(15, 118)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _curve(axis, label: str, points) -> None:
    x, y, low, high = zip(*sorted(points), strict=True)
    errors = [
        [a - b for a, b in zip(y, low, strict=True)],
        [b - a for a, b in zip(y, high, strict=True)],
    ]
    axis.errorbar(x, y, errors, marker="o", markersize=4, capsize=2, linewidth=1.2, label=label)


if __name__ == "__main__":
    if set(sys.argv[1:]) & {"-h", "--help"} or len(sys.argv) > 2:
        print(__doc__.strip())
        sys.exit(0 if len(sys.argv) == 2 else 2)
    draw(Path(sys.argv[1]) if len(sys.argv) == 2 else OUTPUT)
