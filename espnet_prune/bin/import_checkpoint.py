"""Turn a checkpoint of fairseq, torchaudio or DPHuBERT into an encoder directory.

Read are wav2vec 2.0, HuBERT and WavLM: fairseq's .pt (pre-trained or fine-tuned; also Microsoft's
WavLM and s3prl's conversions), the state dicts of torchaudio's bundles, and the slimmed models of
DPHuBERT, DPWavLM and DiariZen. Which it is, is seen from the file. The directory holds config.json
and model.safetensors and works wherever a model directory does.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from espnet_prune.cli import errors as cli
from espnet_prune.structured.checkpoints import import_checkpoint

WRITTEN = ("config.json", "model.safetensors")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="file (.pt, .pth, .bin)")
    parser.add_argument("--output_dir", type=Path, required=True, help="directory to write")
    return parser


def run(args: argparse.Namespace) -> None:
    if args.output_dir.exists():
        others = {file.name for file in args.output_dir.iterdir()} - set(WRITTEN)
        if others:
            raise ValueError(
                f"{args.output_dir}: holds {sorted(others)[0]}, which is not from an import: give "
                "a directory that does not exist"
            )
    kind, encoder = import_checkpoint(args.checkpoint)
    temporary = args.output_dir.with_name(f".{args.output_dir.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    encoder.save_pretrained(temporary)
    if args.output_dir.exists():
        shutil.rmtree(args.output_dir)
    temporary.rename(args.output_dir)
    parameters = sum(p.numel() for p in encoder.parameters())
    slimmed = ", already slimmed" if encoder.config.kept else ""
    print(
        f"{args.output_dir}: {encoder.family} of {kind} format, {encoder.num_layers} layers, "
        f"{parameters / 1e6:.3f} M parameters{slimmed}"
    )


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
