"""Probabilities of shape (frames, speakers) that each speaker talks, by a model of the task diar.

ESPnet's own diar_inference fails in release 202511 (it takes the separated audio of another task,
which is missing, for the result). The table that is written, diarize.scp, is what `espnet-prune
score der` reads.
"""

from __future__ import annotations

import argparse

from espnet_prune.cli import errors as cli
from espnet_prune.cli.options import device_of
from espnet_prune.plugin.inference import get_parser, load, write_arrays


def run(args: argparse.Namespace) -> None:
    device = device_of(args.ngpu)
    model, _ = load("diar.DiarizationTask", args, device)
    if model.attractor is not None:
        raise ValueError(f"{args.train_config}: has an attractor; only attractor: null is scored")

    def diarize(speech):
        lengths = speech.new_full((1,), speech.shape[1], dtype=int)
        return model.decoder(*model.encode(speech, lengths, None, None)).sigmoid()[0].cpu().numpy()

    write_arrays(args, "diarize", device, diarize)


def main(cmd: list[str] | None = None) -> None:
    cli.run(run, get_parser(__doc__), cmd)


if __name__ == "__main__":
    main()
