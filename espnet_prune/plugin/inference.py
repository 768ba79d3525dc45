"""What the inference commands for models of ESPnet's tasks share."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from espnet_prune.data.audio import load_speech
from espnet_prune.data.data_dir import file_name, read_scp, read_table, write_table
from espnet_prune.files.writing import write_file
from espnet_prune.plugin.registry import register
from espnet_prune.structured.tensor_files import check_finite, safe_torch_load


def get_parser(description: str, prefix: str = "") -> argparse.ArgumentParser:
    """A parser with the options that are common to ESPnet's inference commands.

    Args:
        prefix: of the options --train_config and --model_file, as "asr_".
    """
    from espnet2.utils import config_argparse
    from espnet2.utils.types import str2triple_str

    parser = config_argparse.ArgumentParser(description=description)
    add, path = parser.add_argument, {"type": Path, "required": True}
    audio = "FILE,speech,sound: 'utterance path' lines of audio at 16 kHz"
    triple = {"type": str2triple_str, "action": "append", "required": True}
    add("--data_path_and_name_and_type", help=audio, **triple)
    add("--key_file", type=Path, help="take only the utterances in its first column (default: all)")
    add("--output_dir", help="directory to write", **path)
    add(f"--{prefix}train_config", dest="train_config", help="config.yaml of the training", **path)
    add(f"--{prefix}model_file", dest="model_file", help="weights, a .pth of the training", **path)
    add("--ngpu", type=int, default=0, help="0 (CPU) or 1")
    return parser


def load(
    task: str, args: argparse.Namespace, device: str
) -> tuple[torch.nn.Module, argparse.Namespace]:
    """The trained model, in evaluation mode, and the options of its training.

    Args:
        task: name of the task's class in espnet2.tasks, as "spk.SpeakerTask".
        args: of `get_parser`.
    Raises:
        FileNotFoundError: config or weights are missing.
        ValueError: the weights are damaged, NaN or infinite, or hold anything but tensors.
    """
    for path in (args.train_config, args.model_file):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; train first")
    register()
    module, _, name = task.partition(".")
    task_class = getattr(importlib.import_module(f"espnet2.tasks.{module}"), name)
    with safe_torch_load():
        found = task_class.build_model_from_file(args.train_config, args.model_file, device)
    model, trained = found
    check_finite(model.named_parameters(), str(args.model_file))
    return model.eval(), trained


@torch.inference_mode()
def outputs(
    args: argparse.Namespace, name: str, device: str, function: Callable[[torch.Tensor], object]
) -> Iterator[tuple[str, object]]:
    """Utterance and what a function makes of its waveform (1, T), one after the other.

    Args:
        args: of `get_parser`.
        name: of what is made, for the progress bar.
    Raises:
        FileNotFoundError, ValueError: a table or a file cannot be read, is not at 16 kHz, or lacks
            an utterance of --key_file; or the function refuses an utterance.
    """
    scp = Path(args.data_path_and_name_and_type[0][0])
    audio = read_scp(scp)
    keys = read_table(args.key_file) if args.key_file else audio
    for key in tqdm(keys, name, mininterval=2):
        if key not in audio:
            raise ValueError(f"{args.key_file}: {key} is not in {scp}")
        speech = torch.from_numpy(load_speech(audio[key]))[None].to(device)
        try:
            yield key, function(speech)
        except ValueError as error:
            raise ValueError(f"{audio[key]}: {error}") from None


def write_arrays(
    args: argparse.Namespace, name: str, device: str, function: Callable[[torch.Tensor], np.ndarray]
) -> None:
    """Write `outputs` that are arrays: OUTPUT_DIR/<name>/<utterance>.npy, and OUTPUT_DIR/<name>.scp
    with 'utterance file.npy' lines."""
    table = {}
    for key, array in outputs(args, name, device, function):
        file = args.output_dir / name / f"{file_name(key)}.npy"
        write_file(file, lambda path, array=array: np.save(path, array))
        table[key] = file.resolve()
    write_table(args.output_dir / f"{name}.scp", table)
