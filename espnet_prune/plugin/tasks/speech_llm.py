"""The ESPnet task that trains the compact speech LLM."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str_or_none

from espnet_prune.files.reading import read_config, read_record
from espnet_prune.hub.pretrained import RECORD
from espnet_prune.plugin.tasks import base
from espnet_prune.plugin.tasks.speech_llm_model import APART, SpeechLoraModel
from espnet_prune.plugin.trained_model import load_trained
from espnet_prune.plugin.trainer import KillSafeTrainer
from espnet_prune.speech_llm.compact.adapter import AdapterShape, AudioAdapter
from espnet_prune.speech_llm.compact.model import (
    SEPARATOR,
    CompactConfig,
    load_language_model,
    load_tokenizer,
    lora_parameters,
    save_compact,
    with_lora,
)

Data = dict[str, np.ndarray | str]
#: size of a model that may be committed
MOST_BYTES = 24_000_000


class TokenIds:
    """A preprocessor of ESPnet: the texts of an utterance as token ids, as after a blank.

    Where there are several texts, with `SEPARATOR` between them, so is the id `APART`.

    Args:
        tokenizer: the language model's.
        ends: names of the texts that get the token that ends an answer.
    """

    def __init__(self, tokenizer, ends: Collection[str] = ()):
        self.tokenizer, self.ends = tokenizer, ends

    def __call__(self, utt_id: str, data: Data) -> dict[str, np.ndarray]:
        data = dict(data)
        for name, text in data.items():
            if isinstance(text, str):
                ids = []
                for part in text.split(SEPARATOR):
                    spelt = self.tokenizer(f" {part}", add_special_tokens=False).input_ids
                    if not part or not spelt:
                        raise ValueError(f"{utt_id}: '{name}' has no text")
                    end = [self.tokenizer.eos_token_id] if name in self.ends else []
                    ids += [APART, *spelt, *end]
                data[name] = np.array(ids[1:], dtype=np.int64)
        return data


class SpeechLlmLoraTask(base.Task):
    """LoRA training of the language model on the words that the ear hears."""

    trainer = KillSafeTrainer
    data_names = ("tokens", "prompt", "answer")

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser):
        group = parser.add_argument_group(description="Task related")
        for name, what in (
            ("whisper", "Directory of the Whisper that heard the training data"),
            ("language_model", "Directory of the language model"),
        ):
            group.add_argument(f"--{name}", type=str_or_none, help=f"{what} (required)")
        for name, what in (
            ("audio_adapter", "Arguments of AdapterShape"),
            ("model", "Arguments of SpeechLoraModel"),
        ):
            group.add_argument(f"--{name}_conf", action=NestedDictAction, default={}, help=what)
        group.add_argument("--lora_rank", type=int, default=16, help="Rank of LoRA's matrices")
        group.add_argument("--lora_alpha", type=float, default=32.0, help="Scale times rank")
        return group

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool):
        return TokenIds(cls._tokenizer(args), ends=("answer",))

    @classmethod
    def _tokenizer(cls, args: argparse.Namespace):
        """The language model's tokenizer; checks that all that is required is given."""
        for name in ("whisper", "language_model"):
            if not getattr(args, name):
                raise ValueError(f"{name}: is required")
        return load_tokenizer(args.language_model)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> SpeechLoraModel:
        cls._tokenizer(args)
        conf, known = cls.model_conf(args), ("drop_blanks", "prune", "dtype")
        for key in conf:
            if key not in known:
                raise ValueError(f"model_conf: unknown key '{key}', choose from {', '.join(known)}")
        try:
            shape = AdapterShape(**args.audio_adapter_conf)
        except TypeError as error:
            raise ValueError(f"audio_adapter_conf: {error}") from None
        lm, tokenizer = load_language_model(args.language_model)
        adapter = AudioAdapter(lm.get_input_embeddings().weight.shape[1], shape)
        lm = with_lora(lm, args.lora_rank, args.lora_alpha)
        for parameter in lora_parameters(lm).values():
            parameter.requires_grad_(True)
        return SpeechLoraModel(adapter, lm, tokenizer, **conf)


def export(train_dir: Path, model_file: str, output_dir: Path, lora: str) -> str:
    """Turn the training directory of `SpeechLlmLoraTask` into that of a compact speech LLM.

    Arguments are the options of `espnet-prune compact export`.

    Returns: what was written, in words.
    Raises:
        FileNotFoundError, ValueError: a file is missing, damaged, or does not fit.
    """
    model = load_trained(train_dir, model_file, SpeechLlmLoraTask)
    options = read_config(train_dir / "config.yaml")
    names = [origin(options[part]) for part in ("whisper", "language_model")]
    lora_options = options["lora_rank"], options["lora_alpha"]
    config = CompactConfig(*names, model.adapter.shape, *lora_options)
    tensors = dict(zip(model.lora_names, model.lora, strict=True))
    if lora == "none":  # B A = 0
        tensors = {n: torch.zeros_like(w) if ".lora_B." in n else w for n, w in tensors.items()}
    size = save_compact(output_dir, config, model.adapter, tensors)
    made = f"{output_dir}: {size / 1e6:.1f} MB, on {names[0]} and {names[1]}"
    if size > MOST_BYTES:
        made += (
            f"\nwarning: more than {MOST_BYTES / 1e6:g} MB: a smaller lora_rank makes it smaller"
        )
    return made


def origin(directory: str) -> str:
    """The name under which a directory of `espnet_prune.hub.pretrained` was asked for."""
    record = Path(directory) / RECORD
    return read_record(record, ("model",))["model"] if record.is_file() else directory
