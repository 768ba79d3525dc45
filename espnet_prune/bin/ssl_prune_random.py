"""Random structured pruning to an exact size: the baseline that every method has to beat.

Units inside heads and feed-forward layers and CNN channels are dropped uniformly at random; whole
heads, attention and feed-forward sub-layers are not (that would only weaken the baseline).

What is pruned and how far is said after -- with the options of espnet_prune.bin.ssl_prune_train, of
which --config and --pruning_conf count: target, cost, latency_table, protected and round_to have a
meaning here. E.g. -- --config conf/prune.yaml --pruning_conf target=0.7
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch

from espnet_prune.bin.ssl_prune_export import write
from espnet_prune.cli import errors as cli
from espnet_prune.plugin.tasks.ssl_prune import SSLPruneTask, pruning_from
from espnet_prune.structured import Cost, GatedEncoder, SpeechEncoder, load_encoder, slim


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher", required=True, help="directory or hub name of the dense model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", type=Path, required=True, help="directory to write")
    parser.add_argument("training", nargs="*", metavar="-- OPTION", help="as the training has them")
    return parser


def run(args: argparse.Namespace) -> None:
    conf = SSLPruneTask.get_parser().parse_args(args.training).pruning_conf
    pruning = pruning_from(conf or {})
    cost = pruning.load_cost()
    encoder = load_encoder(args.teacher)
    small, exact = prune_at_random(
        encoder, pruning.target, cost, pruning.protected, args.seed, pruning.round_to
    )
    summary = {"target": pruning.target, "cost": pruning.cost, "exact": exact}
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
