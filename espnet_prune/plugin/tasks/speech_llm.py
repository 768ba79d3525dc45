"""ESPnet tasks of the compact speech LLM: `SpeechLlmCtcTask`, then `SpeechLlmLoraTask`."""

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
from espnet_prune.plugin.tasks.speech_llm_model import APART, AdapterCtcModel, SpeechLoraModel
from espnet_prune.plugin.trained_model import load_trained
from espnet_prune.plugin.trainer import KillSafeTrainer
from espnet_prune.speech_llm.compact.adapter import AdapterShape, AudioAdapter
from espnet_prune.speech_llm.compact.model import (
    SEPARATOR,
    CompactConfig,
    load_language_model,
    lora_parameters,
    save_compact,
    with_lora,
)
from espnet_prune.speech_llm.compact.pieces import Pieces, load_tokenizer, piece_tokenizer, spell
from espnet_prune.structured import load_encoder

Data = dict[str, np.ndarray | str]
#: size of a model that may be committed
MOST_BYTES = 24_000_000


class TokenIds:
    """A preprocessor of ESPnet: the texts of an utterance as token ids, as after a blank.

    Where there are several texts, with `SEPARATOR` between them, so is the id `APART`.

    Args:
        tokenizer: the language model's.
        merges: of its byte-pair table that are used, see `piece_tokenizer`; 0 for all.
        ends: names of the texts that get the token that ends an answer.
    """

    def __init__(self, tokenizer, merges: int = 0, ends: Collection[str] = ()):
        self.pieces = piece_tokenizer(tokenizer, merges)
        self.end = tokenizer.eos_token_id
        self.ends = ends

    def __call__(self, utt_id: str, data: Data) -> dict[str, np.ndarray]:
        data = dict(data)
        for name, text in data.items():
            if isinstance(text, str):
                ids = []
                for part in text.split(SEPARATOR):
                    spelt = spell(self.pieces, part)
                    if not part or not spelt:
                        raise ValueError(f"{utt_id}: '{name}' has no text")
                    ids += [APART, *spelt, *([self.end] if name in self.ends else [])]
                data[name] = np.array(ids[1:], dtype=np.int64)
        return data


class _SpeechLlmTask(base.Task):
    """What both steps share."""

    trainer = KillSafeTrainer

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser):
        group = parser.add_argument_group(description="Task related")
        for name, what in (
            ("encoder", "Directory of the frozen encoder that made the features"),
            ("language_model", "Directory of the language model"),
            ("pieces", "File of `compact tokens`: the tokens that the adapter tells apart"),
        ):
            group.add_argument(f"--{name}", type=str_or_none, help=f"{what} (required)")
        for name, what in (
            ("audio_adapter", "Arguments of AdapterShape, and dropout of AudioAdapter"),
            ("model", "Arguments of AdapterCtcModel (first step) or SpeechLoraModel"),
        ):
            group.add_argument(f"--{name}_conf", action=NestedDictAction, default={}, help=what)
        return group

    @classmethod
    def _tokenizer(cls, args: argparse.Namespace):
        """The language model's tokenizer; checks that all that is required is given."""
        for name in ("encoder", "language_model", "pieces"):
            if not getattr(args, name):
                raise ValueError(f"{name}: is required")
        return load_tokenizer(args.language_model)

    @classmethod
    def _adapter(cls, args: argparse.Namespace) -> AudioAdapter:
        """A new adapter between the encoder and the language model."""
        from transformers import AutoConfig

        inputs = load_encoder(args.encoder).hidden_size
        lm = AutoConfig.from_pretrained(args.language_model, trust_remote_code=False)
        outputs = lm.hidden_size
        conf = {"dropout": 0.1, **args.audio_adapter_conf}
        dropout = conf.pop("dropout")
        try:
            shape = AdapterShape(**conf)
        except TypeError as error:
            raise ValueError(f"audio_adapter_conf: {error}") from None
        return AudioAdapter(inputs, outputs, Pieces.load(args.pieces).token_ids, shape, dropout)

    @classmethod
    def _model_conf(cls, args: argparse.Namespace, *known: str) -> dict:
        """`model_conf`, which has to have `known` keys only."""
        conf = cls.model_conf(args)
        for key in conf:
            if key not in known:
                raise ValueError(f"model_conf: unknown key '{key}', choose from {', '.join(known)}")
        return conf


class SpeechLlmCtcTask(_SpeechLlmTask):
    """First step: CTC training of the adapter."""

    data_names = ("feats", "words")

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool):
        return TokenIds(cls._tokenizer(args), Pieces.load(args.pieces).merges)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> AdapterCtcModel:
        tokenizer = cls._tokenizer(args)
        conf = cls._model_conf(args, "noise", "spelling", "bf16")
        return AdapterCtcModel(cls._adapter(args), tokenizer, **conf)


class SpeechLlmLoraTask(_SpeechLlmTask):
    """Second step: LoRA training of the language model on what the adapter gives; `init_param`
    takes the first step's adapter."""

    data_names = ("feats", "prompt", "answer")

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser):
        group = super().add_task_arguments(parser)
        group.add_argument("--lora_rank", type=int, default=16, help="Rank of LoRA's matrices")
        group.add_argument("--lora_alpha", type=float, default=32.0, help="Scale times rank")

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool):
        return TokenIds(cls._tokenizer(args), ends=("answer",))

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> SpeechLoraModel:
        cls._tokenizer(args)
        conf = cls._model_conf(args, "noise", "drop_blanks", "bf16")
        adapter = cls._adapter(args)
        lm, tokenizer = load_language_model(args.language_model)
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
    names = [origin(options[part]) for part in ("encoder", "language_model")]
    ids = tuple(model.adapter.token_ids.tolist())
    lora_options = options["lora_rank"], options["lora_alpha"]
    config = CompactConfig(*names, ids, model.adapter.shape, *lora_options)
    tensors = dict(zip(model.lora_names, model.lora, strict=True))
    if lora == "none":  # B A = 0
        tensors = {n: torch.zeros_like(w) if ".lora_B." in n else w for n, w in tensors.items()}
    size = save_compact(output_dir, config, model.adapter, tensors)
    made = f"{output_dir}: {size / 1e6:.1f} MB, on {names[0]} and {names[1]}"
    if size > MOST_BYTES:
        made += f"\nwarning: more than {MOST_BYTES / 1e6:g} MB: fewer token ids make it smaller"
    return made


def origin(directory: str) -> str:
    """The name under which a directory of `espnet_prune.hub.pretrained` was asked for."""
    record = Path(directory) / RECORD
    return read_record(record, ("model",))["model"] if record.is_file() else directory
