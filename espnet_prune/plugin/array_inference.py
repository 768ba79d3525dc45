"""What the inference commands that write an array for each utterance share."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from espnet_prune.data.audio import load_speech
from espnet_prune.data.data_dir import read_table, write_table
from espnet_prune.files.writing import write_file
from espnet_prune.plugin.registry import register


def get_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options that are common to ESPnet's inference commands."""
    from espnet2.utils import config_argparse
    from espnet2.utils.types import str2triple_str

    parser = config_argparse.ArgumentParser(description=description)
    add, path = parser.add_argument, {"type": Path, "required": True}
    audio = "FILE,speech,sound: 'utterance path' lines of audio at 16 kHz"
    triple = {"type": str2triple_str, "action": "append", "required": True}
    add("--data_path_and_name_and_type", help=audio, **triple)
    add("--key_file", type=Path, help="take only the utterances in its first column")
    add("--output_dir", help="directory for arrays and their table", **path)
    add("--train_config", help="config.yaml of the training", **path)
    add("--model_file", help="weights, a .pth of the training", **path)
    add("--ngpu", type=int, default=0, help="0 (CPU) or 1")
    return parser


def load(task: str, train_config: Path, model_file: Path, device: str) -> torch.nn.Module:
    """The trained model, in evaluation mode.

    Args:
        task: name of the task's class in espnet2.tasks, as "spk.SpeakerTask".
    Raises:
        FileNotFoundError: config or weights are missing.
    """
    for path in (train_config, model_file):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; train first")
    register()
    module, _, name = task.partition(".")
    task_class = getattr(importlib.import_module(f"espnet2.tasks.{module}"), name)
    model, _ = task_class.build_model_from_file(train_config, model_file, device)
    return model.eval()


@torch.inference_mode()
def write_arrays(
    args: argparse.Namespace, name: str, device: str, function: Callable[[torch.Tensor], np.ndarray]
) -> None:
    """<output_dir>/<name>.scp, 'utterance file.npy' lines, of what a function makes of the audio.

    Args:
        args: of `get_parser`.
        name: of the table, and of the folder of the arrays.
        function: waveform (1, T) to an array.
    Raises:
        FileNotFoundError, ValueError: a table or a file cannot be read, is not at 16 kHz, or lacks
            an utterance of --key_file; or the function refuses an utterance.
    """
    scp = Path(args.data_path_and_name_and_type[0][0])
    audio = read_table(scp)
    keys = read_table(args.key_file) if args.key_file else audio
    folder = args.output_dir / name
    table = {}
    for key in tqdm(keys, name, mininterval=2):
        if key not in audio:
            raise ValueError(f"{args.key_file}: {key} is not in {scp}")
        speech = torch.from_numpy(load_speech(audio[key]))[None].to(device)
        try:
            array = function(speech)
        except ValueError as error:
            raise ValueError(f"{audio[key]}: {error}") from None
        write_file(folder / f"{key}.npy", lambda path, array=array: np.save(path, array))
        table[key] = (folder / f"{key}.npy").resolve()
    write_table(args.output_dir / f"{name}.scp", table)
