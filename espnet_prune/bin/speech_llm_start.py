"""Take a compact speech LLM that is there, to train its LoRA further.

Writes what the recipe's stages 4 and 5 make otherwise: the tokens that the adapter tells apart, and
the weights that the training of LoRA begins with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from espnet_prune.cli import errors as cli
from espnet_prune.files.writing import write_text
from espnet_prune.plugin.trainer import atomic_torch_save
from espnet_prune.speech_llm.compact.model import (
    load_language_model,
    lora_parameters,
    read_compact,
    with_lora,
)
from espnet_prune.speech_llm.compact.pieces import Pieces


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--model", type=Path, required=True, help="directory of the compact speech LLM")
    add("--language_model", type=Path, required=True, help="directory of its language model")
    add("--merges", type=int, default=0, help="as of speech_llm_tokens when it was trained")
    add("--pieces", type=Path, required=True, help="JSON file to write")
    add("--weights", type=Path, required=True, help="file to write, for --init_param")
    return parser


def run(args: argparse.Namespace) -> None:
    config, weights = read_compact(args.model)
    state = {name: t.float() for name, t in weights.items() if name.startswith("adapter.")}
    lora = lora_parameters(with_lora(load_language_model(args.language_model)[0], config))
    for number, name in enumerate(lora):  # as SpeechLoraModel holds them
        if f"lora.{name}" not in weights:
            raise ValueError(
                f"{args.model}: lora.{name} is missing; is {args.language_model} the model's?"
            )
        state[f"lora.{number}"] = weights[f"lora.{name}"].float()
    write_text(args.pieces, Pieces(args.merges, config.token_ids).to_json())
    args.weights.parent.mkdir(parents=True, exist_ok=True)
    with atomic_torch_save():
        torch.save(state, args.weights)
    print(f"{args.weights}: {sum(t.numel() for t in state.values()) / 1e6:.1f} million weights")


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
