"""The one door through which encoder directories are written, and their summary is read.

`load_encoder` in `encoder.py` reads the encoder itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_json
from espnet_prune.structured.cost.latency import LatencyTable
from espnet_prune.structured.encoder import SpeechEncoder
from espnet_prune.structured.plan import Cost
from espnet_prune.structured.slim import outline

SUMMARY = "summary.json"
#: plot of what is left of each layer, for the `add` of `write_encoder`
PLOT = "kept.png"
#: all that an encoder directory holds
FILES = ("config.json", "model.safetensors", SUMMARY, PLOT)


def check_directory(output_dir: str | Path) -> None:
    """
    Raises:
        ValueError: the directory exists and holds a file that is not of an encoder directory.
    """
    there = Path(output_dir).iterdir() if Path(output_dir).exists() else ()
    others = {file.name for file in there} - set(FILES)
    if others:
        raise ValueError(
            f"{output_dir}: holds {min(others)}, which is not part of an encoder directory: give a "
            "directory that does not exist"
        )


def write_encoder(
    encoder: SpeechEncoder,
    output_dir: str | Path,
    summary: Mapping | None = None,
    add: Callable[[Path], object] | None = None,
) -> None:
    """Write an encoder directory under a temporary name, then swap it in.

    Args:
        summary: for summary.json; without it there is no such file.
        add: is called with the temporary directory before the swap, to add `PLOT` to it.
    Raises:
        ValueError: as `check_directory`.
    """
    output_dir = Path(output_dir)
    check_directory(output_dir)
    temporary = output_dir.with_name(f".{output_dir.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    encoder.save_pretrained(temporary)
    if summary is not None:
        write_json(temporary / SUMMARY, summary)
    if add is not None:
        add(temporary)
    if output_dir.exists():
        shutil.rmtree(output_dir)
    temporary.rename(output_dir)


def sizes(encoder: SpeechEncoder, cost: Cost = "parameters") -> dict[str, int | float | str]:
    """Size of an encoder and of its dense base, for its summary.

    Args:
        cost: what was pruned by; of a latency table also what it predicts.
    """
    plan, dense = encoder.plan(), outline(encoder, {}).plan()
    found: dict[str, int | float | str] = {
        "parameters": int(plan.parameters()),
        "dense_parameters": int(dense.parameters()),
        "macs_per_second": float(plan.macs()),
        "dense_macs_per_second": float(dense.macs()),
    }
    if isinstance(cost, LatencyTable):
        found["latency_table"] = cost.source
        found["latency_seconds"] = float(cost(plan, {}))
        found["dense_latency_seconds"] = float(cost(dense, {}))
    return found


def size_line(summary: Mapping) -> str:
    """A line about the `sizes` in a summary."""
    share = 1 - summary["parameters"] / summary["dense_parameters"]
    line = (
        f"{summary['parameters'] / 1e6:.3f} M parameters ({share:.1%} fewer), "
        f"{summary['macs_per_second'] / 1e9:.3f} of {summary['dense_macs_per_second'] / 1e9:.3f} "
        "G MACs per second of audio"
    )
    if "latency_table" in summary:
        line += (
            f", {1000 * summary['latency_seconds']:.1f} of "
            f"{1000 * summary['dense_latency_seconds']:.1f} ms by {summary['latency_table']}"
        )
    return line


def removed_share(pruned: str | Path) -> float:
    """Share of the dense encoder's parameters that the encoder of a directory lacks.

    Raises:
        FileNotFoundError, ValueError: the directory has no summary.json, or one without sizes.
    """
    summary = read_record(Path(pruned) / SUMMARY, ("parameters", "dense_parameters"))
    return 1 - summary["parameters"] / summary["dense_parameters"]
