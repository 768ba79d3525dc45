"""Time to the first token behind vLLM's server, against the pruning rate.

A recording is heard once; its audio tokens are pruned at every rate, and a server that
`espnet-prune tokens serve` has started is asked one prompt at a time. Each repetition begins the
recording at another place, so that the server's cache of prefixes knows none of its prompts. All
rates take turns. Answers are compared with those of `transformers` afterwards.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from espnet_prune.cli.errors import run_or_exit
from espnet_prune.cli.options import SPEECH_LLMS, KeyValues, whole
from espnet_prune.data.audio import load_speech
from espnet_prune.evaluate.measuring import write_report
from espnet_prune.evaluate.report import table
from espnet_prune.evaluate.speech_llms import load_speech_llm
from espnet_prune.speech_llm import SpeechLLM
from espnet_prune.speech_llm.serve.client import Answer, Client
from espnet_prune.speech_llm.serve.requests import make_requests
from espnet_prune.tokens import TokenPruner


@dataclass
class Variant:
    """A pruner, and what was asked with it."""

    pruner: TokenPruner | None
    prune: list[float] = field(default_factory=list)  # seconds, with making the prompt
    answers: list[Answer] = field(default_factory=list)
    same: int = 0  # answers that `transformers` gives, too

    @property
    def first_token(self) -> list[float]:
        return [answer.first_token for answer in self.answers]

    def row(self, whole: float) -> dict[str, str]:
        times = 1000 * np.array(self.first_token)
        tokens = {answer.prompt_tokens for answer in self.answers}
        return {
            "strategy": "whole recording" if self.pruner is None else self.pruner.strategy,
            "rate": "-" if self.pruner is None else f"{self.pruner.rate:g}",
            "prompt tokens (server)": "/".join(map(str, sorted(tokens))),
            "prune ms": f"{1000 * np.median(self.prune):.0f}",
            "first token ms": f"{np.median(times):.0f} [{times.min():.0f}, {times.max():.0f}]",
            "speed": f"{whole / np.median(self.first_token):.2f}x",
            "as transformers": f"{self.same} of {len(self.answers)}",
        }


@torch.inference_mode()
def same_answer(llm: SpeechLLM, prompt: torch.Tensor, answer: Answer, new_tokens: int) -> bool:
    """Whether `transformers` gives the same ids after the embeddings of a prompt (P, D)."""
    options = {"max_new_tokens": new_tokens, "do_sample": False, "pad_token_id": 0}
    ids = llm.lm.generate(inputs_embeds=prompt[None], **options, **llm.stops())
    return ids[0].tolist() == list(answer.ids)


def run(args: argparse.Namespace) -> None:
    if args.threads:
        torch.set_num_threads(args.threads)
    client = Client(args.url)
    llm = load_speech_llm(args.speech_llm, args.speech_llm_conf or {})
    speech = load_speech(args.audio, llm.sampling_rate)
    tokens = llm.hear(speech, llm.sampling_rate).tokens
    variants = [Variant(None)]
    variants += [Variant(TokenPruner(s, rate=r)) for s in args.strategies for r in args.rates]
    begun = [tokens.roll(n * len(tokens) // (args.repeats + 1), 0) for n in range(args.repeats + 1)]
    turns = [(n, variant) for n in range(len(begun)) for variant in variants]
    for turn, variant in tqdm(turns, unit="prompt", mininterval=5):
        start = time.perf_counter()
        (request,) = make_requests(llm, [begun[turn]], [args.question], variant.pruner)
        seconds = time.perf_counter() - start
        (answer,) = client.ask([request], args.new_tokens)
        if turn:  # the first one warms up
            variant.prune.append(seconds)
            variant.answers.append(answer)
    for variant in variants:
        for audio, answer in zip(begun[1:], variant.answers, strict=True):
            prompts = llm.prompts([audio], [args.question], variant.pruner)
            prompt = prompts.inputs_embeds[0]
            variant.same += same_answer(llm, prompt, answer, args.new_tokens)
    whole = float(np.median(variants[0].first_token))
    rows = [variant.row(whole) for variant in variants]
    conditions = (
        f"{args.speech_llm}, {len(tokens)} audio tokens, {args.new_tokens} new tokens, medians of "
        f"{args.repeats} with least and most, one prompt at a time, {client.model}"
    )
    print(table([list(rows[0]), *(list(row.values()) for row in rows)]), conditions, sep="\n\n")
    if args.output:
        write_report(args.output, conditions, variants=[_numbers(v) for v in variants])


def _numbers(variant: Variant) -> dict:
    return {
        "strategy": None if variant.pruner is None else variant.pruner.strategy,
        "rate": None if variant.pruner is None else variant.pruner.rate,
        "prompt_tokens": [answer.prompt_tokens for answer in variant.answers],
        "prune_seconds": variant.prune,
        "first_token_seconds": variant.first_token,
        "as_transformers": variant.same,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8000", help="of the server")
    add("--speech_llm", default="compact", help=SPEECH_LLMS)
    add("--speech_llm_conf", action=KeyValues, help="an argument of its loading, e.g. model=DIR")
    add("--audio", type=Path, required=True, help="recording: a file of one channel at 16 kHz")
    add("--question", default="What is this about?", help="what is asked")
    add("--strategies", nargs="+", default=["speechprune"], help="see `espnet-prune tokens`")
    add("--rates", nargs="+", type=float, default=[0.2, 0.4, 0.6, 0.8], help="pruning rates")
    add("--repeats", type=whole(1), default=5, help="prompts of each rate")
    add("--new_tokens", type=whole(1), default=8, help="longest answer")
    add("--threads", type=whole(1), help="CPU threads of encoder and pruner")
    add("--output", type=Path, help="JSON file for all numbers")
    run_or_exit(run, parser.parse_args(argv))


if __name__ == "__main__":
    main()
