"""Size, speed and memory of encoders side by side, as numbers and as rows of a table."""

from __future__ import annotations

from espnet_prune.structured.cost.latency import LatencyTable
from espnet_prune.structured.cost.measure import counted_macs, peak_memory, time_encoders
from espnet_prune.structured.encoder import SpeechEncoder


def profile(
    encoders: dict[str, SpeechEncoder], seconds: float, batch: int, repeats: int
) -> dict[str, dict]:
    """Numbers of every encoder; seconds, bytes, and MACs per second of audio.

    MACs are given twice: from the family's declaration, by which pruning goes, and counted by torch
    while the model runs.

    Args:
        encoders: name -> encoder, in eval mode on its device; they take turns on the same noise.
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


def profile_rows(found: dict[str, dict]) -> list[list[str]]:
    """Head and rows of `profile`'s numbers; ratios are against the first model."""
    head = ["model", "parameters (M)", "G MACs/s", "counted", "real-time factor"]
    rows = [[*head, "ms: p10", "p50", "p90", "p99", "peak MB", "MACs", "speed"]]
    first = next(iter(found.values()))
    for name, numbers in found.items():
        latency, peak = numbers["latency"], numbers["peak_bytes"]
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
    modules = [numbers["modules"] for numbers in found.values()]
    names = dict.fromkeys(name for counts in modules for name in counts if name.count(".") < depth)
    rows = [[name, *(f"{counts.get(name, 0) / 1e9:.4f}" for counts in modules)] for name in names]
    return [["module (counted G MACs/s)", *found], *rows]


def latency_rows(found: LatencyTable) -> list[list[str]]:
    """Head and rows: time of each block at the largest size and at the half (or the nearest)."""
    rows = [["block", "whole", "ms", "half", "ms"]]
    for kind, grid in found.grids.items():
        whole = tuple(len(axis) - 1 for axis in grid.axes)
        half = tuple(
            min(range(len(axis)), key=[abs(size - axis[-1] / 2) for size in axis].__getitem__)
            for axis in grid.axes
        )
        row = [kind]
        for place in (whole, half):
            sizes = (axis[n] for axis, n in zip(grid.axes, place, strict=True))
            row += [" x ".join(f"{size:g}" for size in sizes)]
            row += [f"{1000 * float(grid.seconds[place]):.3f}"]
        rows.append(row)
    return rows
