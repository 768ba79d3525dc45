"""`espnet-prune encoder prune --asr_train_config`: the encoder of a trained model.

What is written is an experiment directory as ESPnet's training leaves one: config.yaml has all
sizes below `encoder: pruned`, so that stock inference, scoring and packing need nothing else, and
train.yaml has the options to go on training with. Frontend, CTC and decoder stay as they are. The
tasks are asr, s2t (OWSM), ssl (XEUS) and st.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import humanfriendly
import torch
import yaml
from torch import Tensor

from espnet_prune.api import calibration_utterances
from espnet_prune.files.reading import read_config
from espnet_prune.files.writing import write_file, write_json, write_text
from espnet_prune.plugin.espnet_encoder import BASES, EspnetEncoder, Structure
from espnet_prune.plugin.inference import load
from espnet_prune.plugin.output_distillation import prune_by_output
from espnet_prune.structured.encoder import check_keys
from espnet_prune.structured.encoder_directory import SUMMARY, size_line, sizes
from espnet_prune.structured.tensor_files import check_finite, load_tensors

CONFIG, TRAIN = "config.yaml", "train.yaml"
#: options of a training that are of one run, beside those that recipes give several times
OF_A_RUN = (
    *("config", "output_dir", "token_list", "token_type", "bpemodel", "init_param", "resume"),
    *("src_token_list", "src_token_type", "src_bpemodel"),
    *("ngpu", "multiprocessing_distributed", "log_level", "num_workers"),
)


def prune_asr(
    asr_train_config: Path,
    asr_model_file: Path,
    data: Sequence[Path],
    target: float,
    output_dir: Path,
    cost: str = "parameters",
    seed: int = 0,
    device: str | None = None,
    layout: str = "free",
    method: str = "one_shot",
    updates: int = 150,
    distill_updates: int | None = None,
) -> None:
    """Write an experiment directory whose encoder is pruned; arguments are the command's options.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: an encoder that cannot be pruned, weights that do not fit, audio that cannot be
            used, a target that cannot be reached, or an output directory with something in it.
    """
    if os.path.lexists(output_dir) and not (output_dir.is_dir() and not any(output_dir.iterdir())):
        raise ValueError(f"{output_dir}: is there already: give a directory that does not exist")
    config = read_config(asr_train_config)
    base, fs = check_config(config, asr_train_config)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    files = argparse.Namespace(train_config=asr_train_config, model_file=asr_model_file)
    model, _ = load(task_of(config), files, device)
    state = load_tensors(asr_model_file)
    own = {f"encoder.{name}" for name in model.encoder.state_dict()}
    given = {name for name in state if name.startswith("encoder.")}
    check_keys(own - given, given - own, f"{asr_model_file}: ")
    audio = calibration_utterances(data, fs, seed)
    features, rate = _heard(model, audio, fs, device)
    encoder = EspnetEncoder(Structure(features[0].shape[1], **base), rate)
    encoder.load(model.encoder)
    try:
        small, found = prune_by_output(
            encoder.to(device),
            features,
            target,
            cost,
            method,
            updates,
            distill_updates,
            seed,
            layout,
        )
    except ValueError as error:
        raise ValueError(f"{asr_model_file}: {error}") from None
    rest = {name: value for name, value in state.items() if name not in given}
    pruned = {f"encoder.{name}": v.cpu() for name, v in small.backbone.state_dict().items()}
    check_finite(pruned, str(output_dir))
    sized = {**found, **sizes(small)}
    sized["model_parameters"] = sized["parameters"] + _size(model) - _size(model.encoder)
    new = {**config, "encoder": "pruned", "encoder_conf": small.structure.conf()}
    new["output_dir"] = str(output_dir)
    write_file(output_dir / asr_model_file.name, lambda path: torch.save(rest | pruned, path))
    write_text(output_dir / TRAIN, _yaml(_training_options(new)))
    write_json(output_dir / SUMMARY, sized)
    write_text(output_dir / CONFIG, _yaml(new))
    print(f"{output_dir}: encoder: {size_line(sized)}")


def task_of(config: dict) -> str:
    """The task in espnet2.tasks of a config.yaml: OWSM's, that of SSL, translation's, or ASR's."""
    if config.get("preprocessor") == "s2t":
        return "s2t.S2TTask"
    if isinstance(config.get("loss"), list):
        return "ssl.SSLTask"
    return "st.STTask" if "src_token_list" in config else "asr.ASRTask"


def check_config(config: dict, where: Path) -> tuple[dict[str, Any], int]:
    """What else than the width of the features a `Structure` has, and the sampling rate in Hz.

    Raises:
        ValueError: the encoder of a config.yaml is none that can be pruned.
    """
    name, conf = config.get("encoder"), config.get("encoder_conf") or {}
    if name == "pruned":
        base = dict(conf)
    elif name in BASES:
        base = {"base": name, "base_conf": conf}
    else:
        known = ", ".join([*BASES, "pruned"])
        raise ValueError(f"{where}: encoder: {name} cannot be pruned, only one of {known}")
    for key in ("interctc_use_conditioning", "ctc_trim"):
        if base["base_conf"].get(key):
            raise ValueError(f"{where}: encoder_conf: {key}: true: such encoders are not supported")
    if config.get("input_size") is not None:
        raise ValueError(f"{where}: input_size: the model reads features instead of audio")
    rate = (config.get("frontend_conf") or {}).get("fs", 16000)
    return base, humanfriendly.parse_size(rate) if isinstance(rate, str) else int(rate)


@torch.no_grad()
def _heard(model: Any, audio: Sequence[Tensor], fs: int, device: str) -> tuple[list[Tensor], float]:
    """What the encoder of a model reads of waveforms, (T, D) each, and its frames per second."""
    features: list[Tensor] = []
    rates: list[float] = []

    def keep(module: torch.nn.Module, args: tuple, kwargs: dict, output: tuple) -> None:
        features.append(args[0][0].cpu())
        rates.append(int(output[1][0]))

    encode = getattr(model, "inference_encode", model.encode)  # without the masks of pre-training
    handle = model.encoder.register_forward_hook(keep, with_kwargs=True)
    try:
        for samples in audio:
            encode(samples[None].to(device), torch.tensor([len(samples)], device=device))
    finally:
        handle.remove()
    return features, sum(rates) * fs / sum(map(len, audio))


def _training_options(config: dict) -> dict[str, Any]:
    """The options in a config.yaml that are not of one run or ESPnet's defaults."""
    module, _, name = task_of(config).partition(".")
    task = getattr(importlib.import_module(f"espnet2.tasks.{module}"), name)
    wanted = {}
    for action in task.get_parser()._actions:
        once = not isinstance(action, argparse._AppendAction) and action.dest not in OF_A_RUN
        if once and action.dest in config and not action.dest.startswith("dist_"):
            if config[action.dest] != action.default:
                wanted[action.dest] = config[action.dest]
    return wanted


def _yaml(config: dict) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def _size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
