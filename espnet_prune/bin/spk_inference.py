"""Speaker embeddings of whole utterances, by a model of ESPnet's task spk.

ESPnet's own spk_inference does not run in release 202511, and its spk_embed_extract takes crops
and trials. The table that is written, embed.scp, is what `espnet-prune score eer` reads.
"""

from __future__ import annotations

import argparse

from espnet_prune.cli import errors as cli
from espnet_prune.cli.options import device_of
from espnet_prune.plugin.inference import get_parser, load, write_arrays


def run(args: argparse.Namespace) -> None:
    device = device_of(args.ngpu)
    model, _ = load("spk.SpeakerTask", args, device)

    def embed(speech):
        return model(speech=speech, extract_embd=True)[0].cpu().numpy()

    write_arrays(args, "embed", device, embed)


def main(cmd: list[str] | None = None) -> None:
    cli.run(run, get_parser(__doc__), cmd)


if __name__ == "__main__":
    main()
