"""Encoders from what a training left, or from its options."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from espnet_prune.api import calibration_audio
from espnet_prune.evaluate.pruning_report import write_pruned
from espnet_prune.files.reading import read_config
from espnet_prune.plugin.tasks.ssl_prune import SSLPruneTask
from espnet_prune.plugin.trainer import TARGET
from espnet_prune.structured import load_encoder
from espnet_prune.structured.baselines import prune_at_random
from espnet_prune.structured.distill import DistillModel, PruningConf
from espnet_prune.structured.encoder_directory import check_directory
from espnet_prune.structured.one_shot import prune_one_shot
from espnet_prune.structured.prune_and_distil import slimmed
from espnet_prune.structured.tensor_files import check_finite, load_tensors

LATEST = "latest.pth"


def load_trained(train_dir: Path, model_file: str, task: Any = SSLPruneTask) -> Any:
    """The model of a task's training directory with the weights of `model_file`.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged, or the two do not fit; weights
            or gates are NaN or infinite.
    """
    config, weights = train_dir / "config.yaml", train_dir / model_file
    for path in (config, weights):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing; has the training been run to its end?")
    args = argparse.Namespace(**read_config(config))
    model = task.build_model(args)
    state = load_tensors(weights)
    check_finite(state, str(weights))
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{weights}: does not fit {config}: {reason}") from None
    return model.eval()


def slim_training(
    train_dir: Path,
    model_file: str | None,
    target: float | None,
    output_dir: Path,
    all_targets: bool,
    calibrate: bool,
) -> None:
    """What `encoder slim` does; arguments are its options.

    Raises:
        FileNotFoundError, ValueError: as `load_trained`; a target out of range, or without gates.
    """
    if target is not None and not 0.0 <= target < 1.0:
        raise ValueError(f"--target is {target}, but has to be in [0, 1)")

    check_directory(output_dir)

    def write(model: DistillModel, target: float | None, output_dir: Path) -> None:
        encoder, summary = slimmed(model, target, calibrate)
        write_pruned(encoder, summary, output_dir, model.student.cost)

    model = load_trained(train_dir, model_file or _weights_for(train_dir, target))
    if model.pruning is None:
        if target is not None:
            raise ValueError(f"--target: the model of {train_dir} has no gates")
        write_pruned(model.encoder, {"updates": int(model.updates)}, output_dir)
        return
    targets = model.pruning.targets if all_targets else ()
    places = [output_dir.with_name(f"{output_dir.name}_{target:g}") for target in targets]
    for place in places:
        check_directory(place)
    write(model, target, output_dir)
    for target, place in zip(targets, places, strict=True):
        weights = train_dir / TARGET.format(target)
        if weights.is_file():
            write(load_trained(train_dir, weights.name), target, place)
        else:
            fault = f"missing: the expected sparsity never came to {target:g}; train longer"
            print(f"warning: {weights}: {fault}", file=sys.stderr)


def _weights_for(train_dir: Path, target: float | None) -> str:
    """Name of the weights to slim: of a target on the way those that training kept for it."""
    config = train_dir / "config.yaml"
    if target is None or not config.is_file():
        return LATEST
    pruning = read_config(config).get("pruning_conf") or {}
    return TARGET.format(target) if target in (pruning.get("targets") or []) else LATEST


def prune_in_one_shot(
    teacher: str, data: Path, seed: int, output_dir: Path, training: list[str]
) -> None:
    """What `encoder one-shot` does; arguments are its options."""
    check_directory(output_dir)
    conf = _pruning_conf(training)
    if conf.round_to > 1:
        raise ValueError("pruning_conf.round_to: not with the method one_shot")
    cost, encoder = conf.load_cost(), load_encoder(teacher)
    audio = calibration_audio(encoder, data, seed)
    small, summary = prune_one_shot(
        encoder,
        audio,
        conf.target,
        cost,
        conf.protected,
        seed,
        layout=conf.layout,
        compensate=conf.compensate,
    )
    write_pruned(small, {**summary, "cost": conf.cost}, output_dir, cost)


def _pruning_conf(training: list[str]) -> PruningConf:
    given = SSLPruneTask.get_parser().parse_args(training).pruning_conf
    return PruningConf.from_dict(given or {})


def prune_randomly(teacher: str, seed: int, output_dir: Path, training: list[str]) -> None:
    """What `encoder random` does; arguments are its options."""
    check_directory(output_dir)
    conf = _pruning_conf(training)
    cost, options = conf.load_cost(), (conf.protected, seed, conf.round_to, conf.layout)
    small, exact = prune_at_random(load_encoder(teacher), conf.target, cost, *options)
    summary = {"target": conf.target, "cost": conf.cost, "exact": exact}
    write_pruned(small, summary, output_dir, cost)
