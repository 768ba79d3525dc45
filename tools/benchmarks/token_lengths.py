"""How time and memory of choosing audio tokens grow with the length of the recording.

Every strategy chooses among random tokens of the true size of a speech LLM, with the true shapes of
its language model's first layer; random numbers take as long as real ones. Everything runs in one
process. Seconds of the processors, over all threads, say what a busy machine would take if it had
nothing else to do; memory is what choosing takes beyond the tokens and the weights.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from espnet_prune.cli.errors import run_or_exit
from espnet_prune.cli.options import SPEECH_LLMS, add_machine
from espnet_prune.evaluate.figures import plt, save_figure
from espnet_prune.evaluate.measuring import clock, use_machine, write_report
from espnet_prune.evaluate.report import table
from espnet_prune.evaluate.token_cost import language_model_config, speech_llm_class
from espnet_prune.structured.cost.measure import peak_memory_of
from espnet_prune.tokens import STRATEGIES, FirstLayer, TokenPruner


@dataclass
class Growth:
    """One strategy at one length, and what was measured of it."""

    pruner: TokenPruner
    minutes: float
    tokens: int
    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None

    @property
    def milliseconds(self) -> float:
        """Median."""
        return 1000 * float(np.median(self.seconds))

    @property
    def processor_milliseconds(self) -> float:
        """Median."""
        return 1000 * float(np.median(self.processor_seconds))


@torch.inference_mode()
def measure(config, found: Sequence[Growth], args: argparse.Namespace, dtype: torch.dtype) -> None:
    """Fill in times and peaks. The run that gives the peak warms up; where it takes ten times as
    long as --min_seconds it is timed itself, and the only one.

    Args:
        config: `transformers` configuration of the language model.
    """
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(args.device, dtype)

    width, heads = config.hidden_size, config.num_attention_heads
    kv_width = width // heads * config.num_key_value_heads
    first_layer = FirstLayer(random(width, width), random(kv_width, width), heads)
    audio = random(1, max(growth.tokens for growth in found), width)
    query = random(1, args.query_tokens, width)
    for growth in tqdm(found, unit="measurement", mininterval=5):
        choose = functools.partial(
            growth.pruner, audio[:, : growth.tokens], query=query, first_layer=first_layer
        )
        timed = functools.partial(_timed, choose, growth, args.device)
        growth.peak_bytes = peak_memory_of(timed, args.device)
        if growth.seconds[0] < 10 * args.min_seconds:
            growth.seconds.clear()
            growth.processor_seconds.clear()
            while sum(growth.seconds) < args.min_seconds:
                timed()


def _timed(choose: Callable[[], object], growth: Growth, device: str) -> None:
    start = clock(device)
    choose()
    seconds, processors = (clock(device) - start).tolist()
    growth.seconds.append(seconds)
    growth.processor_seconds.append(processors)


def growth_table(found: Sequence[Growth], minutes: Sequence[float]) -> str:
    """Strategies down, lengths across: milliseconds, those of the processors, and MB."""
    rows = [["strategy", *(f"{m:g} min" for m in minutes)]]
    for strategy in dict.fromkeys(growth.pruner.strategy for growth in found):
        rows.append([strategy])
        for growth in found:
            if growth.pruner.strategy == strategy:
                peak = "?" if growth.peak_bytes is None else f"{growth.peak_bytes / 1e6:.0f}"
                times = f"{growth.milliseconds:.1f} ({growth.processor_milliseconds:.1f}) ms"
                rows[-1].append(f"{times}, {peak} MB")
    return table(rows)


def plot_growth(found: Sequence[Growth], path: Path) -> None:
    """Time and peak memory against minutes, a line for each strategy."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    strategies = dict.fromkeys(growth.pruner.strategy for growth in found)
    minutes = sorted({growth.minutes for growth in found})
    panels = {
        "time (ms)": lambda growth: growth.milliseconds,
        # what is less than 0.1 MB is noise of the process
        "peak memory (MB)": lambda growth: max(0.1, (growth.peak_bytes or 0) / 1e6),
    }
    for axis, (title, value) in zip(axes, panels.items(), strict=True):
        for strategy in strategies:
            rows = [growth for growth in found if growth.pruner.strategy == strategy]
            axis.plot([r.minutes for r in rows], [value(r) for r in rows], "o-", ms=4, lw=1.2)
        proportional = [10.0 * m / minutes[0] for m in minutes]
        axis.plot(minutes, proportional, color="0.6", ls=":", lw=3)
        axis.set(xlabel="minutes of audio", title=title, xscale="log", yscale="log")
        axis.set_xticks(minutes, [f"{m:g}" for m in minutes])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    labels = [*strategies, "proportional to length"]
    figure.legend(axes[0].lines, labels, fontsize=8, ncol=5, loc="upper center")
    figure.subplots_adjust(top=0.8)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)


def run(args: argparse.Namespace) -> None:
    if args.query_tokens < 1:
        raise ValueError(f"--query_tokens is {args.query_tokens}, but has to be 1 or more")
    if not args.min_seconds > 0:
        raise ValueError(f"--min_seconds is {args.min_seconds:g}, but has to be more than 0")
    minutes = sorted(set(args.minutes))
    if not minutes[0] > 0:
        raise ValueError(f"--minutes has {minutes[0]:g}, but has to be more than 0")
    dtype = use_machine(args)
    kind, config = speech_llm_class(args.speech_llm), language_model_config(args.speech_llm)
    # window has the tokens of 30 s
    found = [
        Growth(
            TokenPruner(strategy, rate=args.rate).fitted(kind.window, kind.frame_tokens),
            m,
            max(1, round(2 * kind.window * m)),
        )
        for strategy in args.strategies
        for m in minutes
    ]
    measure(config, found, args, dtype)
    longest = max(growth.tokens for growth in found)
    itself = longest * config.hidden_size * dtype.itemsize / 1e6
    conditions = (
        f"{args.speech_llm}'s sizes, random weights, {kind.window} tokens in 30 s of "
        f"{config.hidden_size} dimensions, {args.query_tokens} of the query, rate {args.rate:g}, "
        f"{args.dtype}, {args.device}, {torch.get_num_threads()} threads, medians of "
        f"what {args.min_seconds:g} s allow, in brackets of the processors; "
        f"the {longest} tokens of the longest themselves are {itself:.0f} MB"
    )
    print(growth_table(found, minutes), f"\n{conditions}", sep="\n")
    if args.output:
        rows = [
            {
                "strategy": growth.pruner.strategy,
                "minutes": growth.minutes,
                "audio_tokens": growth.tokens,
                "kept_tokens": growth.pruner.kept_tokens(growth.tokens),
                "seconds": growth.seconds,
                "processor_seconds": growth.processor_seconds,
                "peak_bytes": growth.peak_bytes,
            }
            for growth in found
        ]
        write_report(args.output, conditions, growth=rows)
    if args.plot:
        plot_growth(found, args.plot)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--speech_llm", default="qwen2_audio", help=SPEECH_LLMS)
    add("--minutes", nargs="+", type=float, default=[0.5, 1, 2, 5, 10], help="lengths to measure")
    add(
        "--strategies",
        nargs="+",
        default=list(STRATEGIES),
        metavar="NAME",
        help=f"strategies to measure (default: all): {', '.join(STRATEGIES)}",
    )
    add("--rate", type=float, default=0.2, help="pruning rate, of the tokens of 30 s")
    add("--query_tokens", type=int, default=20, help="tokens of the question")
    add("--min_seconds", type=float, default=1.0, help="time each for so long, once at least")
    add_machine(parser, ("float32", "bfloat16"))
    add("--output", type=Path, help="JSON file for all numbers")
    add("--plot", type=Path, help="PNG file")
    return parser


def main(cmd=None) -> None:
    run_or_exit(run, get_parser().parse_args(cmd))


if __name__ == "__main__":
    main()
