"""Read what a training left, or its options say."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch

from espnet_prune.files.reading import read_config
from espnet_prune.plugin.tasks.ssl_prune import SSLPruneTask
from espnet_prune.plugin.trainer import TARGET
from espnet_prune.structured.distill import PruningConf

LATEST = "latest.pth"


def load_trained(train_dir: Path, model_file: str, task: Any = SSLPruneTask) -> Any:
    """The model of a task's training directory with the weights of `model_file`.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged, or the two do not fit.
    """
    config, weights = train_dir / "config.yaml", train_dir / model_file
    for path in (config, weights):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing; has the training been run to its end?")
    args = argparse.Namespace(**read_config(config))
    model = task.build_model(args)
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
    """Name of the weights to slim: of a target on the way those that training kept for it."""
    config = train_dir / "config.yaml"
    if target is None or not config.is_file():
        return LATEST
    pruning = read_config(config).get("pruning_conf") or {}
    return TARGET.format(target) if target in (pruning.get("targets") or []) else LATEST


def pruning_options(options: list[str]) -> PruningConf:
    """`pruning_conf` of options as the training takes them, such as --config and --pruning_conf."""
    return PruningConf.from_dict(SSLPruneTask.get_parser().parse_args(options).pruning_conf or {})
