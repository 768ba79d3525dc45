"""Parameters, MACs, speed and memory of encoders, dense and pruned, side by side in one run.

The models take turns on the same noise. MACs are given twice: from the family's declaration, which
pruning goes by, and counted by torch while the model runs. Ratios are against the first model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from espnet_prune.bin.measuring import add_machine, use_machine, write_report
from espnet_prune.cli import errors as cli
from espnet_prune.evaluate.report import table
from espnet_prune.structured import SpeechEncoder, load_encoder
from espnet_prune.structured.cost.measure import counted_macs, peak_memory, time_encoders


def profile(
    encoders: dict[str, SpeechEncoder], seconds: float, batch: int, repeats: int
) -> dict[str, dict]:
    """Numbers of every encoder; seconds, bytes, and MACs per second of audio.

    Args:
        encoders: name -> encoder, in eval mode on its device.
    """
    memory = [peak_memory(encoder, seconds, batch) for encoder in encoders.values()]
    timings = time_encoders(list(encoders.values()), seconds, repeats, batch)
    found = {}
    for (name, encoder), bytes_, timing in zip(encoders.items(), memory, timings, strict=True):
        plan = encoder.plan(seconds)
        counts = counted_macs(encoder, seconds)
        found[name] = {
            "family": encoder.family,
            "parameters": int(plan.parameters()),
            "macs_per_second": float(plan.macs()),
            "counted_macs_per_second": counts[""] / seconds,
            "rtf": timing.real_time_factor,
            "latency": {f"p{q}": timing.percentile(q) for q in (10, 50, 90, 99)},
            "peak_bytes": bytes_,
            "modules": {key: value / seconds for key, value in counts.items() if key and value},
        }
    return found


def rows_of(found: dict[str, dict]) -> list[list[str]]:
    """Head and rows of the table."""
    head = ["model", "parameters (M)", "G MACs/s", "counted", "real-time factor"]
    head += ["ms: p10", "p50", "p90", "p99", "peak MB", "MACs", "speed"]
    rows = [head]
    first = next(iter(found.values()))
    for name, numbers in found.items():
        latency = numbers["latency"]
        peak = numbers["peak_bytes"]
        rows.append(
            [
                name,
                f"{numbers['parameters'] / 1e6:.3f}",
                f"{numbers['macs_per_second'] / 1e9:.4f}",
                f"{numbers['counted_macs_per_second'] / 1e9:.4f}",
                f"{numbers['rtf']:.5f}",
                *(f"{1000 * latency[key]:.1f}" for key in ("p10", "p50", "p90", "p99")),
                "" if peak is None else f"{peak / 1e6:.0f}",
                f"{first['macs_per_second'] / numbers['macs_per_second']:.2f}x",
                f"{first['latency']['p50'] / latency['p50']:.2f}x",
            ]
        )
    return rows


def module_rows(found: dict[str, dict], depth: int) -> list[list[str]]:
    """Counted G MACs a second of the modules down to a depth of names, a column for each model."""
    names: dict[str, None] = {}
    for numbers in found.values():
        names.update(dict.fromkeys(n for n in numbers["modules"] if n.count(".") < depth))
    rows = [["module (counted G MACs/s)", *found]]
    for name in names:
        cells = [numbers["modules"].get(name, 0.0) for numbers in found.values()]
        rows.append([name, *(f"{cell / 1e9:.4f}" for cell in cells)])
    return rows


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="directories or hub names")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of an utterance")
    parser.add_argument("--batch", type=int, default=1, help="utterances at a time")
    parser.add_argument("--repeats", type=int, default=20, help="timed passes of each model")
    add_machine(parser)
    parser.add_argument("--depth", type=int, default=0, help="table of modules down to this depth")
    parser.add_argument("--output", type=Path, help="JSON file for all numbers, every module's too")
    return parser


def run(args: argparse.Namespace) -> None:
    for name in ("seconds", "batch", "repeats"):
        if getattr(args, name) <= 0:
            raise ValueError(f"--{name} is {getattr(args, name)}, but has to be above 0")
    if len(set(args.models)) < len(args.models):
        raise ValueError("a model is given twice")
    dtype = use_machine(args)
    encoders = {name: load_encoder(name).eval().to(args.device, dtype) for name in args.models}
    found = profile(encoders, args.seconds, args.batch, args.repeats)
    conditions = (
        f"{args.seconds:g} s of audio, batch {args.batch}, {args.dtype}, {args.device}, "
        f"{torch.get_num_threads()} threads, {args.repeats} passes of each model in turn"
    )
    print(table(rows_of(found)), f"\n{conditions}", sep="\n")
    if args.depth:
        print("\n" + table(module_rows(found, args.depth)))
    if args.output:
        write_report(args.output, conditions, models=found)


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
