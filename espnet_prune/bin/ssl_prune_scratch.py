"""A student of a pruned encoder's sizes with random weights: the baseline that is only distilled.

What pruning is worth beyond its sizes shows against it: `ssl_prune_train --student` distils it as
it distils a slimmed model. Weights are drawn for the dense model as its family initialises it, and
cut to the sizes; what is no weight to train (Whisper's sinusoidal positions) is kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from espnet_prune.bin.ssl_prune_export import write
from espnet_prune.cli import errors as cli
from espnet_prune.structured import SpeechEncoder, load_encoder, outline, slim


def from_scratch(like: SpeechEncoder, seed: int = 0) -> SpeechEncoder:
    """An encoder of the same structure with random weights.

    Args:
        like: pruned or dense; it is not changed.
        seed: of the weights; the generator of torch is left as it was.
    """
    config = like.config.__class__(
        family=like.family, base=like.config.base, do_normalize=like.config.do_normalize
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dense = SpeechEncoder(config)
    student = slim(dense, like.plan().masks())
    given = dict(like.backbone.named_parameters())
    with torch.no_grad():
        for name, parameter in student.backbone.named_parameters():
            if not parameter.requires_grad:
                parameter.copy_(given[name])
    return student.eval()


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--like", required=True, help="directory of the pruned encoder")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    parser.add_argument("--output_dir", type=Path, required=True, help="directory to write")
    return parser


def run(args: argparse.Namespace) -> None:
    student = from_scratch(load_encoder(args.like), args.seed)
    dense = outline(student, {}).plan()
    exact = 1 - float(student.plan().parameters()) / float(dense.parameters())
    summary = {"target": exact, "cost": "parameters", "exact": exact, "seed": args.seed}
    write(student, summary, args.output_dir)


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
