"""One table of several pruning experiments: method, size, held-out distillation loss, WER.

Experiments that differ only in their seed share a row (mean, and the range over seeds). Beside the
table in FILE.md, FILE.png has loss and WER against parameters; experiments that differ only in the
number at the end of their names, such as ours_0.5 and ours_0.7, are a line.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from pathlib import Path

from espnet_prune.cli import errors as cli
from espnet_prune.evaluate.plots import plot_sizes
from espnet_prune.evaluate.report import table
from espnet_prune.files.writing import write_text

SEED = re.compile(r"_seed\d+$")
TARGET = re.compile(r"_\d*\.?\d+$")
SIZE, LOSS = "parameters (M)", "held-out loss"

#: experiment -> numbers of its runs with different seeds
Groups = dict[str, list[dict[str, float]]]


def read_experiment(exp: Path, scores: list[str]) -> dict[str, float]:
    """Numbers of one experiment directory of the recipe `ssl_prune1`.

    Args:
        scores: names of `scores.json` files in it, relative.
    """
    pruned, valid = exp / "pruned" / "summary.json", exp / "distill" / "valid.jsonl"
    for file in (pruned, valid, *(exp / score for score in scores)):
        if not file.is_file():
            raise FileNotFoundError(f"{file}: missing; run the experiment to its end first")
    summary = json.loads(pruned.read_text())
    row = {
        SIZE: summary["parameters"] / 1e6,
        "G MACs/s": summary["macs_per_second"] / 1e9,
        LOSS: json.loads(valid.read_text().splitlines()[-1])["distill"],
    }
    for score in scores:
        found = json.loads((exp / score).read_text())["systems"]["hyp"]
        name = Path(score).parent.name
        row[f"WER % {name}"] = 100 * found["wer"]["rate"]
        row[f"CER % {name}"] = 100 * found["cer"]["rate"]
    return row


def grouped(experiments: list[Path], scores: list[str]) -> Groups:
    """Seeds of one experiment put together."""
    groups: Groups = {}
    for exp in experiments:
        groups.setdefault(SEED.sub("", exp.name), []).append(read_experiment(exp, scores))
    return groups


def rows_of(groups: Groups) -> list[list[str]]:
    """Head and rows."""
    rows: list[list[str]] = []
    for name, runs in groups.items():
        rows = rows or [["experiment", "runs", *runs[0]]]
        cells = []
        for key in runs[0]:
            values = [run[key] for run in runs]
            digits = 1 if "%" in key else 4
            text = f"{statistics.mean(values):.{digits}f}"
            if len(runs) > 1:
                text += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
            cells.append(text)
        rows.append([name, str(len(runs)), *cells])
    return rows


def plot(groups: Groups, path: Path) -> None:
    """Loss and word error rates against parameters, a line for each method."""
    lines: dict[str, list[dict[str, list[float]]]] = {}
    for name, runs in groups.items():
        point = {key: [run[key] for run in runs] for key in runs[0]}
        lines.setdefault(TARGET.sub("", name).removeprefix("ssl_prune_"), []).append(point)
    keys = next(iter(groups.values()))[0]
    plot_sizes(lines, SIZE, [LOSS, *(key for key in keys if key.startswith("WER"))], path)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiments", nargs="+", type=Path, help="experiment directories")
    parser.add_argument(
        "--score",
        action="append",
        default=[],
        metavar="FILE",
        help="a scores.json inside every experiment, e.g. whisper/test_en/scores.json",
    )
    parser.add_argument("--output", type=Path, help="file to write the table to, with the plot")
    return parser


def run(args: argparse.Namespace) -> None:
    groups = grouped(args.experiments, args.score)
    text = table(rows_of(groups))
    print(text)
    if args.output:
        write_text(args.output, text + "\n")
        plot(groups, args.output.with_suffix(".png"))


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
