"""The verb `prune` of `espnet-prune encoder`."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path


def prune(parser: ArgumentParser):
    """Prune a speech encoder on audio, without ESPnet's trainer.

    Gates are learned together with the weights, what they drop is removed, and the smaller encoder
    is distilled from the dense one. Recipes (egs2/*/ssl_prune1) do this for large data.
    """
    parser.add_argument("model", help="directory or hub name of a speech encoder")
    parser.add_argument(
        "data",
        nargs="+",
        type=Path,
        help="audio files, folders of audio, or data directories with wav.scp",
    )
    parser.add_argument("--target", type=float, default=0.5, help="share of the cost to remove")
    parser.add_argument("--output_dir", type=Path, required=True, help="encoder directory to write")
    parser.add_argument(
        "--cost",
        choices=("parameters", "macs"),
        default="parameters",
        help="what the target is a share of",
    )
    parser.add_argument("--updates", type=int, default=150, help="updates with gates")
    parser.add_argument("--distill_updates", type=int, default=450, help="updates after slimming")
    parser.add_argument("--seed", type=int, default=0, help="seed of gates and order of audio")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is a GPU)")

    def run(args):
        from espnet_prune.api import prune

        prune(
            args.model,
            args.data,
            args.target,
            args.output_dir,
            cost=args.cost,
            updates=args.updates,
            distill_updates=args.distill_updates,
            seed=args.seed,
            device=args.device,
        )

    return run
