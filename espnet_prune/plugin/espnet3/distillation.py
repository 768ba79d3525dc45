"""Distillation as a stage of ESPnet 3: the task `ssl_prune`, with the trainer of ESPnet 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from espnet_prune.files.freshness import claim, named
from espnet_prune.files.writing import write_text
from espnet_prune.plugin.tasks.ssl_prune import SSLPruneTask
from espnet_prune.plugin.trained_model import slim_training


def distill(
    teacher: str,
    student: str,
    train_dir: str,
    valid_dir: str,
    training_dir: str,
    output_dir: str,
    options: dict[str, Any],
) -> None:
    """Distil a pruned encoder from the dense one, and write it as an encoder directory.

    Args:
        teacher, student: directories of the dense and of the pruned encoder.
        train_dir, valid_dir: data directories that `espnet-prune data format` has written.
        training_dir: gets the training; one that was stopped goes on.
        output_dir: encoder directory to write.
        options: of `espnet_prune.bin.ssl_prune_train`, as in its YAML files. With `pruning_conf`,
            gates are learned, too, and what they drop is removed.
    Raises:
        FileNotFoundError, ValueError: a directory is missing, an option is wrong, or `training_dir`
            holds the training of other encoders, data or options.
    """
    training = Path(training_dir)
    parts = {"train": Path(train_dir), "valid": Path(valid_dir)}
    scps = {part: folder / "wav.scp" for part, folder in parts.items()}
    given = yaml.safe_dump(options, sort_keys=True)
    claim(training, [*named([teacher, student, *map(str, scps.values())]), given])
    config = training / "options.yaml"
    write_text(config, given)
    words = ["--config", str(config), "--teacher", teacher, "--student", student]
    for part, folder in parts.items():
        words += [f"--{part}_data_path_and_name_and_type", f"{scps[part]},speech,sound"]
        words += [f"--{part}_shape_file", str(folder / "utt2num_samples")]
    SSLPruneTask.main(cmd=[*words, "--resume", "true", "--output_dir", training_dir])
    slim_training(training, None, None, Path(output_dir), all_targets=False, calibrate=True)
