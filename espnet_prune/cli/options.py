"""Types and groups of options that several commands share."""

from __future__ import annotations

import argparse


def true_or_false(value: str) -> bool:
    """A bool as recipes write it."""
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise argparse.ArgumentTypeError(f"'{value}' is neither true nor false")


def sampling_rate(value: str) -> int:
    """A sampling rate in Hz, also in ESPnet's way of writing it: 16000 or 16k."""
    try:
        return int(float(value[:-1]) * 1000) if value.endswith("k") else int(value)
    except ValueError:
        text = f"'{value}' is not a sampling rate such as 16000 or 16k"
        raise argparse.ArgumentTypeError(text) from None


def add_machine(
    parser: argparse.ArgumentParser, dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
) -> None:
    """Add --threads, --device and --dtype."""
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", choices=dtypes, default="float32")
