"""Turn a training directory of the task `ssl_prune` into an encoder directory.

A model with gates is slimmed: the units that its hard masks drop are physically removed. A model
without gates (second phase) is written as it is. The directory holds config.json and
model.safetensors, kept.png (what is left of every layer) and summary.json. With --all_targets true,
each of pruning_conf.targets gets a directory beside it, <output_dir>_<target>.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import sys
from pathlib import Path

import torch
import yaml

from espnet_prune.cli import errors as cli
from espnet_prune.evaluate.plots import plot_kept
from espnet_prune.plugin.tasks.ssl_prune import SSLPruneTask
from espnet_prune.plugin.trainer import TARGET
from espnet_prune.structured import Cost, LatencyTable, SpeechEncoder, outline, slim
from espnet_prune.structured.distill import DistillModel

LATEST = "latest.pth"


def load_trained(train_dir: Path, model_file: str) -> DistillModel:
    """The model of a training directory with the weights of `model_file`."""
    config, weights = train_dir / "config.yaml", train_dir / model_file
    for path in (config, weights):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing; has the training stage been run to its end?")
    args = argparse.Namespace(**yaml.safe_load(config.read_text()))
    model = SSLPruneTask.build_model(args)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{weights}: damaged: {error}") from None
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{weights}: does not fit {config}: {error}") from None
    return model.eval()


def weights_for(train_dir: Path, target: float | None) -> str:
    """Name of the weights to export: of a target on the way those that training kept for it."""
    config = train_dir / "config.yaml"
    if target is None or not config.is_file():
        return LATEST
    pruning = yaml.safe_load(config.read_text()).get("pruning_conf") or {}
    return TARGET.format(target) if target in (pruning.get("targets") or []) else LATEST


def slimmed(
    model: DistillModel, calibrate: bool, target: float | None = None
) -> tuple[SpeechEncoder, dict]:
    """The slimmed student and the sparsities that led to it; `target` instead of the last one."""
    gated, pruning = model.student, model.pruning
    target = pruning.target if target is None else target
    natural = gated.hard_masks()
    masks = gated.hard_masks(target) if calibrate else natural
    summary = {
        "target": target,
        "cost": pruning.cost,
        "round_to": pruning.round_to,
        "expected": gated.expected_sparsity().item(),
        "exact_at_threshold_zero": gated.exact_sparsity(natural),
        "exact": gated.exact_sparsity(masks),
        "updates": int(model.updates),
    }
    if abs(summary["exact"] - target) > 0.01:
        print(
            f"warning: the exact sparsity is {summary['exact']:.2%}, the target "
            f"{target:.2%}: train longer, or protect fewer sites",
            file=sys.stderr,
        )
    return slim(gated.encoder, masks), summary


def write(
    encoder: SpeechEncoder, summary: dict, output_dir: Path, cost: Cost = "parameters"
) -> None:
    """Write an encoder directory under a temporary name, then rename it.

    Args:
        cost: what was pruned by; what a latency table predicts is added to the summary.
    """
    plan, whole = encoder.plan(), outline(encoder, {}).plan()
    summary = {
        **summary,
        "parameters": int(plan.parameters()),
        "dense_parameters": int(whole.parameters()),
        "macs_per_second": float(plan.macs()),
        "dense_macs_per_second": float(whole.macs()),
    }
    predicted = ""
    if isinstance(cost, LatencyTable):
        summary["latency_table"] = cost.source
        summary["latency_seconds"] = float(cost(plan, {}))
        summary["dense_latency_seconds"] = float(cost(whole, {}))
        predicted = (
            f", {1000 * summary['latency_seconds']:.1f} of "
            f"{1000 * summary['dense_latency_seconds']:.1f} ms by {cost.source}"
        )
    temporary = output_dir.with_name(f".{output_dir.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    encoder.save_pretrained(temporary)
    plot_kept(whole, plan.masks(), temporary / "kept.png")
    (temporary / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    if output_dir.exists():
        shutil.rmtree(output_dir)
    temporary.rename(output_dir)
    share = 1 - summary["parameters"] / summary["dense_parameters"]
    print(
        f"{output_dir}: {summary['parameters'] / 1e6:.3f} M parameters ({share:.1%} fewer), "
        f"{summary['macs_per_second'] / 1e9:.3f} of {summary['dense_macs_per_second'] / 1e9:.3f} "
        f"G MACs per second of audio{predicted}"
    )


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--train_dir", type=Path, required=True, help="training directory")
    parser.add_argument(
        "--model_file",
        help=f"weights in it; {LATEST}, or those kept for --target, when not given",
    )
    parser.add_argument(
        "--target",
        type=float,
        help="share of the cost to remove, e.g. one of pruning_conf.targets; the last target when "
        "not given",
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="directory to write")
    parser.add_argument(
        "--all_targets",
        choices=("true", "false"),
        default="false",
        help="also write the smaller targets on the way, each with the weights kept for it",
    )
    parser.add_argument(
        "--calibrate",
        choices=("true", "false"),
        default="true",
        help="move the gates' threshold to where the exact sparsity is nearest to the target; "
        "false keeps the units with log_alpha >= 0",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    if args.target is not None and not 0.0 <= args.target < 1.0:
        raise ValueError(f"--target is {args.target}, but has to be in [0, 1)")
    model_file = args.model_file or weights_for(args.train_dir, args.target)
    model = load_trained(args.train_dir, model_file)
    if model.pruning is None:
        if args.target is not None:
            raise ValueError(f"--target: the model of {args.train_dir} has no gates to prune by")
        write(model.encoder, {"updates": int(model.updates)}, args.output_dir)
        return
    encoder, summary = slimmed(model, args.calibrate == "true", args.target)
    write(encoder, summary, args.output_dir, model.student.cost)
    for target in model.pruning.targets if args.all_targets == "true" else ():
        weights = args.train_dir / TARGET.format(target)
        if not weights.is_file():
            print(
                f"warning: {weights}: missing: the expected sparsity never came to {target:g} of "
                "pruning_conf.targets, so it gets no encoder; train longer",
                file=sys.stderr,
            )
            continue
        model = load_trained(args.train_dir, weights.name)
        encoder, summary = slimmed(model, args.calibrate == "true", target)
        output_dir = args.output_dir.with_name(f"{args.output_dir.name}_{target:g}")
        write(encoder, summary, output_dir, model.student.cost)


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
