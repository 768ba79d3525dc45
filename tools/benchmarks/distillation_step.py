"""Time and peak memory of one prune-and-distil step, with and without what makes it cheaper.

A step is the forward pass of teacher and student, the backward pass and the update, on random
weights of true size and quiet noise; compared layers and losses are those of
egs2/librispeech/ssl_prune1. Each setting runs in a fresh process, so that its peak is its own.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import torch
from encoder_layouts import ARCHITECTURES
from transformers import AutoConfig

from espnet_prune.cli import errors as cli
from espnet_prune.cli.options import add_machine
from espnet_prune.evaluate.measuring import use_machine, write_report
from espnet_prune.evaluate.report import table
from espnet_prune.structured import SpeechEncoder, SpeechEncoderConfig
from espnet_prune.structured.cost.measure import noise
from espnet_prune.structured.distill import DistillModel, PruningConf

#: name -> arguments of `DistillModel`
SETTINGS = {
    "baseline": {},
    "teacher_bf16": {"teacher_dtype": "bfloat16"},
    "checkpointing": {"activation_checkpointing": True},
    "both": {"teacher_dtype": "bfloat16", "activation_checkpointing": True},
    "cached_teacher": {"teacher_cache": True},
}


def build(architecture: str, **kwargs) -> DistillModel:
    """Teacher, and student with gates for 72% fewer parameters, with random weights.

    Args:
        kwargs: of `DistillModel`.
    """
    kind, sizes, _ = ARCHITECTURES[architecture]
    config = SpeechEncoderConfig(family=kind, base=AutoConfig.for_model(kind, **sizes).to_dict())
    teacher, student = SpeechEncoder(config), SpeechEncoder(config)
    student.load_state_dict(teacher.state_dict())
    layers = range(0, teacher.num_layers + 1, 4)
    losses = {"l1": 1.0, "cosine": 1.0}
    return DistillModel(teacher, student, PruningConf(target=0.72), layers, losses, **kwargs)


def measure(setting: str, args: argparse.Namespace) -> dict:
    """Take steps in this process: their seconds, and bytes at the peak.

    Returns: `seconds` of each timed update; `peak_bytes` of the process, or on a GPU of torch's
        allocator; `bytes_before`, what it was before the first step.
    """
    dtype, kind = use_machine(args), torch.device(args.device).type
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as cache:
        conf = dict(SETTINGS[setting])
        if conf.get("teacher_cache"):
            conf["teacher_cache"] = cache
        model = build(args.architecture, **conf).to(args.device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
        batch = noise(args.seconds, args.batch, args.device, torch.float32)
        before = _peak(args.device)
        times = []
        for _ in range(args.updates + 1):
            start = time.perf_counter()
            with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
                loss = model(*batch)[0]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            _peak(args.device)  # waits for a GPU to finish
            times.append(time.perf_counter() - start)
    # The first one warms up, and fills the cache
    return {"seconds": times[1:], "peak_bytes": _peak(args.device), "bytes_before": before}


def _peak(device: str) -> int:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_fresh_process(setting: str, args: argparse.Namespace) -> dict:
    """`measure`, in a process that has done nothing else.

    Raises:
        ValueError: the process was killed, as it is where memory does not suffice.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(measure, setting, args).result()
        except BrokenProcessPool:
            raise ValueError(
                f"{setting}: its process was killed, probably for memory; make --batch or "
                "--seconds smaller"
            ) from None


def run(args: argparse.Namespace) -> None:
    for name in ("seconds", "batch", "updates"):
        if getattr(args, name) <= 0:
            raise ValueError(f"--{name} is {getattr(args, name)}, but has to be above 0")
    use_machine(args)
    rows = [["setting", "updates/s", "s/update (median)", "peak GB", "before the first step"]]
    rows[0] += ["speed", "memory"]
    found: dict[str, dict] = {}
    for setting in args.settings:
        print(f"{setting} ...", flush=True)
        numbers = found[setting] = in_fresh_process(setting, args)
        first = found[args.settings[0]]
        seconds, first_seconds = (float(np.median(n["seconds"])) for n in (numbers, first))
        rows.append(
            [
                setting,
                f"{1 / seconds:.4f}",
                f"{seconds:.2f}",
                f"{numbers['peak_bytes'] / 1e9:.2f}",
                f"{numbers['bytes_before'] / 1e9:.2f}",
                f"{first_seconds / seconds:.2f}x",
                f"{numbers['peak_bytes'] / first['peak_bytes']:.0%}",
            ]
        )
    conditions = (
        f"{args.architecture}, random weights, {args.batch} x {args.seconds:g} s of audio, "
        f"{args.dtype}, {args.device}, {torch.get_num_threads()} threads, {args.updates} timed "
        "updates after one that warms up; speed and memory against the first setting"
    )
    print(table(rows), f"\n{conditions}", sep="\n")
    if args.output:
        write_report(args.output, conditions, settings=found)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--architecture", choices=tuple(ARCHITECTURES), default="wavlm_base_plus")
    parser.add_argument(
        "--settings",
        nargs="+",
        choices=tuple(SETTINGS),
        default=list(SETTINGS),
        metavar="NAME",
        help=f"{', '.join(SETTINGS)}; all when not given",
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of an utterance")
    parser.add_argument("--batch", type=int, default=8, help="utterances in an update")
    parser.add_argument("--updates", type=int, default=3, help="timed updates of each setting")
    add_machine(parser, ("float32", "bfloat16"))  # of the student: what `use_amp` does
    parser.add_argument("--output", type=Path, help="JSON file for all numbers")
    return parser


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
