"""Have a language model write passages to speak, a JSON list of sentences a line."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch

from espnet_prune.cli import errors as cli
from espnet_prune.speech_llm.compact.model import load_language_model
from espnet_prune.speech_llm.compact.written_text import write_passages

#: speech of an average passage of SmolLM2-135M-Instruct, those that are no use counted
SECONDS_A_PASSAGE = 30.0


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--language_model", type=Path, required=True, help="directory of a chat model")
    add("--hours", type=float, default=9.0, help="of speech to train on")
    add("--held_out", type=int, default=60, help="passages more, to validate and test on")
    add("--output", type=Path, required=True, help="file to write; a stopped run is continued")
    add("--seed", type=int, default=0, help="of subjects and words")
    add("--ngpu", type=int, default=0, help="0: on the CPU")
    return parser


def run(args: argparse.Namespace) -> None:
    if args.hours <= 0 or args.held_out < 2:
        raise ValueError("--hours has to be positive, and --held_out 2 or more")
    lm, tokenizer = load_language_model(args.language_model)
    lm.to("cuda" if args.ngpu else "cpu", torch.bfloat16)  # three times faster, on CPUs, too
    number = args.held_out + math.ceil(args.hours * 3600 / SECONDS_A_PASSAGE)
    passages = write_passages(lm, tokenizer, number, args.output, args.seed)
    words = sum(len(sentence.split()) for passage in passages for sentence in passage)
    good = sum(map(bool, passages))
    print(json.dumps({"passages": len(passages), "good": good, "words": words}))


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
