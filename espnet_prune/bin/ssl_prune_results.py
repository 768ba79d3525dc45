"""Write RESULTS.md of a pruning experiment: size, speed and scores, dense against pruned.

Speed is measured here and now: dense and pruned model take turns on the same audio, and the
medians of one run are compared.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from espnet_prune.cli import errors as cli
from espnet_prune.evaluate.environment import environment_report
from espnet_prune.evaluate.plots import plot_gates
from espnet_prune.evaluate.report import table
from espnet_prune.files.writing import write_text
from espnet_prune.structured import SpeechEncoder, load_encoder
from espnet_prune.structured.cost.measure import time_encoders


def size_rows(dense: SpeechEncoder, pruned: SpeechEncoder, seconds: float, repeats: int):
    """Rows of the table of sizes and speeds, and the same as numbers."""
    numbers: dict[str, list[float]] = {}
    for name, encoder in (("dense", dense), ("pruned", pruned)):
        plan = encoder.plan(seconds)
        numbers[name] = [float(plan.parameters()), float(plan.macs())]
    timings = time_encoders([dense, pruned], seconds, repeats)
    for name, timing in zip(numbers, timings, strict=True):
        numbers[name] += [timing.percentile(q) / seconds for q in (50, 0, 100)]
    rows = [["", "parameters (M)", "G MACs / s of audio", "real-time factor (least to greatest)"]]
    for name, (parameters, macs, rtf, low, high) in numbers.items():
        rows.append(
            [
                name,
                f"{parameters / 1e6:.3f}",
                f"{macs / 1e9:.4f}",
                f"{rtf:.4f} ({low:.4f} to {high:.4f})",
            ]
        )
    d, p = numbers["dense"], numbers["pruned"]
    rows.append(
        [
            "pruned against dense",
            f"{100 * (p[0] / d[0] - 1):+.1f}%",
            f"{100 * (p[1] / d[1] - 1):+.1f}%",
            f"{d[2] / p[2]:.2f}x faster",
        ]
    )
    keys = ("parameters", "macs_per_second", "rtf", "rtf_least", "rtf_greatest")
    return rows, {name: dict(zip(keys, values, strict=True)) for name, values in numbers.items()}


def score_rows(scores: list[tuple[str, Path]]) -> list[list[str]]:
    """Rows of the table of WER and CER from `score_text`'s files (first system: pruned)."""

    def cell(part: dict, key: str, sign: int = 1) -> str:
        ends = sorted(sign * 100 * part[end] for end in ("low", "high"))
        plus = "" if key == "rate" else "+"
        return f"{sign * 100 * part[key]:{plus}.1f} [{ends[0]:{plus}.1f}, {ends[1]:{plus}.1f}]"

    rows = [["task and test set", "rate", "dense", "pruned", "pruned minus dense, paired"]]
    for label, path in scores:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing; run the scoring stage first")
        found = json.loads(path.read_text())
        pruned, dense = found["systems"]["hyp"], found["systems"]["hyp2"]
        for unit in ("wer", "cer"):
            rows.append(
                [
                    f"{label} ({found['utterances']} utterances)",
                    f"{unit.upper()} %",
                    cell(dense[unit], "rate"),
                    cell(pruned[unit], "rate"),
                    cell(found["difference"][unit], "difference", -1),
                ]
            )
    return rows


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--dense", required=True, help="directory or hub name of the dense model")
    parser.add_argument("--exp", type=Path, required=True, help="experiment; its pruned/ is read")
    parser.add_argument(
        "--score",
        nargs=2,
        action="append",
        default=[],
        metavar=("LABEL", "JSON"),
        help="scores.json of score_text with --hyp pruned --hyp2 dense",
    )
    parser.add_argument("--command", default="", help="command that made the experiment")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the timed audio")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each model")
    return parser


def run(args: argparse.Namespace) -> None:
    dense, pruned = load_encoder(args.dense).eval(), load_encoder(args.exp / "pruned").eval()
    sizes, numbers = size_rows(dense, pruned, args.seconds, args.repeats)
    parts = ["# Results", ""]
    if args.command:
        parts += [f"Made by `{args.command}` (one run).", ""]
    speed = (
        f"Costs for {args.seconds:g} s of audio; real-time factor: median of {args.repeats} runs "
        f"of each model in turn, batch 1, {torch.get_num_threads()} threads, same process."
    )
    parts += ["## Size and speed of the encoder", "", table(sizes), "", speed, ""]
    summary = {"size": numbers}
    slim_summary = args.exp / "slim" / "summary.json"
    if slim_summary.is_file():
        summary["slim"] = json.loads(slim_summary.read_text())
        target, exact, cost = (summary["slim"][key] for key in ("target", "exact", "cost"))
        cost = {"macs": "MACs", "latency": "latency by the table"}.get(cost, cost)
        parts += [f"Sparsity asked for: {target:.2%} of the {cost}, exact: {exact:.2%}.", ""]
    if args.score:
        scores = score_rows([(label, Path(path)) for label, path in args.score])
        parts += ["## Scores (percent, with 95% bootstrap intervals over utterances)", ""]
        parts += [table(scores), ""]
    parts += ["## What is left of each layer", "", "![kept sizes](pruned/kept.png)", ""]
    if (args.exp / "prune" / "images" / "course.png").is_file():
        parts += ["## Course of pruning", "", "![course](prune/images/course.png)", ""]
        plot_gates(args.exp / "gates.png")
        parts += ["## A gate", "", "![z and s_bar](gates.png)", ""]
    parts.append(environment_report())
    text = "\n".join(parts)
    write_text(args.exp / "RESULTS.md", text)
    write_text(args.exp / "results.json", json.dumps(summary, indent=2) + "\n")
    print(text)


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
