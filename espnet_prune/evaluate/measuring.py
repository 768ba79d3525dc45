"""Where a measurement runs, and the JSON report that says so."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from espnet_prune.evaluate.environment import environment_report
from espnet_prune.files.writing import write_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def use_machine(args: argparse.Namespace) -> torch.dtype:
    """Set what the options of `cli.options.add_machine` ask for; errors as of `check_device`."""
    check_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    return DTYPES[args.dtype]


def check_device(device: str, what: str = "--device") -> None:
    """Refuse a GPU that is not there (ValueError)."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"{what} is {device}, but there is no GPU that torch can use")


def clock(device: str | torch.device) -> np.ndarray:
    """Seconds, and those of the processors over all threads, (2,), once the device has done all."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return np.array([time.perf_counter(), time.process_time()])


def conditions_of(args: argparse.Namespace) -> dict[str, object]:
    """What a time depends on beside the machine; `args` has seconds and batch, too."""
    names = ("seconds", "batch", "dtype", "device")
    return {**{n: getattr(args, n) for n in names}, "threads": torch.get_num_threads()}


def write_report(path: Path, conditions: str, **numbers) -> None:
    """Numbers as JSON, with the conditions and the machine that they hold for."""
    write_json(path, {"conditions": conditions, "environment": environment_report(), **numbers})
