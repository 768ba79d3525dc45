"""Turn the LoRA training directory of a compact speech LLM into a directory to load.

The adapter's and LoRA's weights in float16, and the names of encoder and language model, see
`espnet_prune.speech_llm.compact.Compact`.
"""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path

import torch
import yaml

from espnet_prune.cli import errors as cli
from espnet_prune.hub.pretrained import RECORD
from espnet_prune.plugin.tasks.speech_llm import SpeechLlmLoraTask, compact_config
from espnet_prune.speech_llm.compact.model import save_compact

#: the weights may be committed up to this size
MOST_BYTES = 24_000_000


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--train_dir", type=Path, required=True, help="training directory")
    add("--model_file", default="valid.loss.best.pth", help="weights in it")
    add("--output_dir", type=Path, required=True, help="directory to write")
    add(
        "--lora",
        choices=("trained", "none"),
        default="trained",
        help="none: the language model as it was, to see what LoRA brings",
    )
    return parser


def origin(directory: str) -> str:
    """The name under which a directory of `espnet_prune.hub.pretrained` was asked for."""
    record = Path(directory) / RECORD
    if not record.is_file():
        return directory
    return json.loads(record.read_text(encoding="utf-8"))["model"]


def run(args: argparse.Namespace) -> None:
    config, weights = args.train_dir / "config.yaml", args.train_dir / args.model_file
    for path in (config, weights):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing; has the training been run to its end?")
    trained = argparse.Namespace(**yaml.safe_load(config.read_text(encoding="utf-8")))
    model = SpeechLlmLoraTask.build_model(trained)
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{weights}: damaged, or does not fit {config}: {error}") from None
    names = origin(trained.encoder), origin(trained.language_model)
    compact = compact_config(trained, model.adapter, *names)
    lora = model.lora_weights()
    if args.lora == "none":  # B A = 0
        lora = {n: torch.zeros_like(w) if ".lora_B." in n else w for n, w in lora.items()}
    size = save_compact(args.output_dir, compact, model.adapter, lora)
    print(f"{args.output_dir}: {size / 1e6:.1f} MB, on {names[0]} and {names[1]}")
    if size > MOST_BYTES:
        print(f"warning: more than {MOST_BYTES / 1e6:g} MB: fewer token ids make it smaller")


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
