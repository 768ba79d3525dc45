"""Cost of the compact speech LLM's answers with its encoder pruned, its audio tokens, or both.

Recordings of a data directory with questions are heard, pruned and read, up to the first token of
the answer. All encoders and rates take turns recording by recording in one process. FLOPs are those
of matrix products, convolutions and attention, counted by torch in an untimed pass before.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from espnet_prune.cli.errors import run_or_exit
from espnet_prune.cli.options import whole
from espnet_prune.data.audio import SAMPLING_RATE, load_speech
from espnet_prune.data.data_dir import read_scp
from espnet_prune.data.sir.questions import read_questions
from espnet_prune.evaluate.measuring import clock, write_report
from espnet_prune.evaluate.report import table
from espnet_prune.speech_llm.compact.model import DTYPES, Compact, recipe_model
from espnet_prune.tokens import TokenPruner
from espnet_prune.tokens.pruner import check_rate


def counted(step: Callable[[], Tensor]) -> tuple[Tensor, float, float]:
    """What a step gives, its FLOPs, and the seconds that it takes when it is not counted."""
    counter = FlopCounterMode(display=False)
    with counter:
        found = step()
    start = clock("cpu")[0]
    step()
    return found, float(counter.get_total_flops()), float(clock("cpu")[0] - start)


def read(llm: Compact, tokens: Tensor, question: str, pruner: TokenPruner | None) -> Tensor:
    """Prune and read; the indices of the tokens that stay."""
    prompts = llm.prompts([tokens], [question], pruner)
    llm.read(prompts)
    return prompts.kept[0]


def run(args: argparse.Namespace) -> None:
    for rate in args.rates:
        check_rate(rate)
    torch.set_num_threads(args.threads)
    directory = args.model or recipe_model()
    llms = {
        name: Compact.from_pretrained(directory, encoder=encoder, dtype=args.dtype)
        for name, encoder in [("dense", None), *args.encoder]
    }
    pruners = {"all": None} | {
        f"{args.strategy} {rate:g}": TokenPruner(args.strategy, rate=rate) for rate in args.rates
    }
    scp = read_scp(args.data_dir / "wav.scp")
    questions = read_questions(args.data_dir / "questions")
    chosen = list(scp)[:: max(1, len(scp) // args.recordings)][: args.recordings]
    variants = [(name, kept) for name in llms for kept in pruners]
    measured: dict[tuple[str, str], list[list[float]]] = {variant: [] for variant in variants}
    for key in tqdm(chosen, unit="recording"):
        speech, question = load_speech(scp[key], name=key), questions[key].question
        for name, llm in llms.items():
            hear = partial(llm.hear, speech, SAMPLING_RATE)
            tokens, hear_flops, hear_seconds = counted(lambda hear=hear: hear().tokens)
            for kept, pruner in pruners.items():
                left, flops, seconds = counted(partial(read, llm, tokens, question, pruner))
                row = [float(len(left)), hear_flops + flops, hear_seconds, seconds]
                measured[name, kept].append(row)
    means = {variant: np.mean(rows, 0) for variant, rows in measured.items()}
    first = means[variants[0]]
    rows = [["encoder", "audio tokens", "parameters (M)", "GFLOPs", "FLOPs", "hear s", "read s"]]
    rows[0] += ["both s", "speed"]
    for (name, kept), (number, flops, hears, reads) in means.items():
        whole_model = (llms[name].ear.encoder, llms[name].ear.whisper.model.decoder, llms[name].lm)
        millions = sum(p.numel() for part in whole_model for p in part.parameters()) / 1e6
        rows.append([name, f"{number:.0f} ({kept})", f"{millions:.1f}", f"{flops / 1e9:.0f}"])
        rows[-1] += [
            f"{first[1] / flops:.2f}x",
            f"{hears:.2f}",
            f"{reads:.2f}",
            f"{hears + reads:.2f}",
        ]
        rows[-1].append(f"{(first[2] + first[3]) / (hears + reads):.2f}x")
    conditions = (
        f"means of {len(chosen)} recordings, {torch.get_num_threads()} threads, language model in "
        f"{next(iter(llms.values())).lm.dtype}"
    )
    print(table(rows), f"\n{conditions}", sep="\n")
    if args.output:
        numbers = [
            {"encoder": name, "tokens": kept, "recordings": rows}
            for (name, kept), rows in measured.items()
        ]
        write_report(args.output, conditions, measured=numbers)


def main(cmd: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data_dir", type=Path, required=True, help="directory with wav.scp and questions")
    add("--model", default=None, help="compact speech LLM (default: the repository's)")
    pair = {"nargs": 2, "action": "append", "metavar": ("NAME", "DIR"), "default": []}
    add("--encoder", **pair, help="a pruned encoder, beside Whisper's own")
    add("--rates", nargs="+", type=float, default=[0.2, 0.6], help="rates, beside all tokens")
    add("--strategy", default="speechprune", help="see `espnet-prune tokens strategies`")
    add("--recordings", type=whole(1), default=8, help="evenly spaced (default: 8)")
    add("--threads", type=whole(1), default=2, help="CPU threads (default: 2)")
    add("--dtype", choices=DTYPES, default="auto", help="of the language model")
    add("--output", type=Path, help="JSON file for all numbers")
    run_or_exit(run, parser.parse_args(cmd))


if __name__ == "__main__":
    main()
