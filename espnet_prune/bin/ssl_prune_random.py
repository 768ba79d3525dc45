"""Random structured pruning to an exact size: the baseline that every method has to beat.

Units inside heads and feed-forward layers and CNN channels are dropped uniformly at random; whole
heads, attention and feed-forward sub-layers are not (that would only weaken the baseline).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
import yaml

from espnet_prune.bin import cli
from espnet_prune.bin.ssl_prune_export import write
from espnet_prune.distill import PruningConf
from espnet_prune.structure import Cost, GatedEncoder, SpeechEncoder, load_encoder, slim


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--teacher", required=True, help="directory or hub name of the dense model")
    parser.add_argument("--target", type=float, required=True, help="sparsity in [0, 1)")
    parser.add_argument(
        "--config",
        type=Path,
        help="config of prune-and-distil, for `cost`, `protected` and `round_to` in it",
    )
    parser.add_argument("--latency_table", help="in place of the one that the config names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", type=Path, required=True, help="directory to write")
    return parser


def run(args: argparse.Namespace) -> None:
    if not 0.0 <= args.target < 1.0:
        raise ValueError(f"--target is {args.target}, but has to be in [0, 1)")
    conf = yaml.safe_load(args.config.read_text()) if args.config else {}
    options = dict(conf.get("pruning_conf") or {})
    if args.latency_table:
        options["latency_table"] = args.latency_table
    pruning = PruningConf(**options)
    cost = pruning.load_cost()
    encoder = load_encoder(args.teacher)
    small, exact = prune_at_random(
        encoder, args.target, cost, pruning.protected, args.seed, pruning.round_to
    )
    summary = {"target": args.target, "cost": pruning.cost, "exact": exact}
    write(small, summary, args.output_dir, cost)


def prune_at_random(
    encoder: SpeechEncoder,
    target: float,
    cost: Cost = "parameters",
    protected: Iterable[str] = (),
    seed: int = 0,
    round_to: int = 1,
) -> tuple[SpeechEncoder, float]:
    """A slimmed copy with about the same share of every layer left, and its exact sparsity."""
    gated = GatedEncoder(
        encoder, protected=(*protected, "mha", "ffn", "head"), cost=cost, round_to=round_to
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for alpha in gated.log_alphas().values():
            alpha.copy_(torch.rand(len(alpha), generator=generator))
    masks = gated.hard_masks(target)
    return slim(encoder, masks), gated.exact_sparsity(masks)


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
