"""ESPnet tasks of the compact speech LLM: `SpeechLlmCtcTask`, then `SpeechLlmLoraTask`."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import torch
from espnet2.tasks.abs_task import AbsTask
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str_or_none

from espnet_prune.files.reading import read_config, read_record
from espnet_prune.hub.pretrained import RECORD
from espnet_prune.plugin.tasks.speech_llm_model import APART, AdapterCtcModel, SpeechLoraModel
from espnet_prune.plugin.trainer import KillSafeTrainer
from espnet_prune.speech_llm.compact.adapter import AudioAdapter
from espnet_prune.speech_llm.compact.lora import load_language_model, lora_parameters, with_lora
from espnet_prune.speech_llm.compact.model import SEPARATOR, CompactConfig, save_compact
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


class _SpeechLlmTask(AbsTask):
    """What both steps share."""

    num_optimizers: int = 1
    class_choices_list: list = []
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
        group.add_argument(
            "--audio_adapter_conf",
            action=NestedDictAction,
            default={},
            help="width, blocks, kernel, heads, feedforward, spread, contrast and dropout of "
            "AudioAdapter",
        )
        group.add_argument(
            "--model_conf",
            action=NestedDictAction,
            default={},
            help="noise: standard deviation of the noise on the adapter's input, in units of that "
            "of the input itself; spelling: weight of the letters' loss (first step only); "
            "drop_blanks: up to which share of the blanks is left out (second step only); "
            "bf16: adapter (first step) or language model compute in bfloat16",
        )
        return group

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        return CommonCollateFn(float_pad_value=0.0, int_pad_value=0)

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False):
        return ()

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
        outputs = AutoConfig.from_pretrained(args.language_model).hidden_size
        try:
            return AudioAdapter(
                inputs, outputs, Pieces.load(args.pieces).token_ids, **args.audio_adapter_conf
            )
        except TypeError as error:
            raise ValueError(f"audio_adapter_conf: {error}") from None

    @classmethod
    def _model_conf(cls, args: argparse.Namespace, *known: str) -> dict:
        """The keys of `model_conf` that are ours: arguments of the model."""
        conf = dict(args.model_conf)
        conf.pop("extract_feats_in_collect_stats", None)  # read by AbsTask
        for key in conf:
            if key not in known:
                raise ValueError(f"model_conf: unknown key '{key}', choose from {', '.join(known)}")
        return conf


class SpeechLlmCtcTask(_SpeechLlmTask):
    """First step: CTC training of the adapter."""

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False):
        return ("feats", "words")

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

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser):
        group = super().add_task_arguments(parser)
        group.add_argument("--lora_rank", type=int, default=16, help="Rank of LoRA's matrices")
        group.add_argument("--lora_alpha", type=float, default=32.0, help="Scale times rank")

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False):
        return ("feats", "prompt", "answer")

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool):
        return TokenIds(cls._tokenizer(args), ends=("answer",))

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> SpeechLoraModel:
        cls._tokenizer(args)
        conf = cls._model_conf(args, "noise", "drop_blanks", "bf16")
        adapter = cls._adapter(args)
        lm, tokenizer = load_language_model(args.language_model)
        lm = with_lora(lm, compact_config(args, adapter))
        for parameter in lora_parameters(lm).values():
            parameter.requires_grad_(True)
        return SpeechLoraModel(adapter, lm, tokenizer, **conf)


def compact_config(
    args: argparse.Namespace,
    adapter: AudioAdapter,
    encoder: str | None = None,
    language_model: str | None = None,
) -> CompactConfig:
    """The configuration of the speech LLM that a training of `SpeechLlmLoraTask` makes.

    Args:
        encoder, language_model: names of the frozen parts, instead of the training's directories.
    """
    shape = {name: value for name, value in args.audio_adapter_conf.items() if name != "dropout"}
    return CompactConfig(
        encoder=encoder or args.encoder,
        language_model=language_model or args.language_model,
        token_ids=tuple(adapter.token_ids.tolist()),
        **shape,
        lora_rank=args.lora_rank,
        lora_alpha=args.lora_alpha,
    )


def export(train_dir: Path, model_file: str, output_dir: Path, lora: str) -> str:
    """Turn the training directory of `SpeechLlmLoraTask` into that of a compact speech LLM.

    Args:
        model_file: weights in `train_dir`.
        lora: `trained`, or `none` for the language model as it was.
    Returns: what was written, in words.
    Raises:
        FileNotFoundError, ValueError: a file is missing, damaged, or does not fit.
    """
    config, weights = train_dir / "config.yaml", train_dir / model_file
    for path in (config, weights):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing; has the training been run to its end?")
    trained = argparse.Namespace(**read_config(config))
    model = SpeechLlmLoraTask.build_model(trained)
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{weights}: damaged, or does not fit {config}: {error}") from None
    names = origin(trained.encoder), origin(trained.language_model)
    compact = compact_config(trained, model.adapter, *names)
    tensors = model.lora_weights()
    if lora == "none":  # B A = 0
        tensors = {n: torch.zeros_like(w) if ".lora_B." in n else w for n, w in tensors.items()}
    size = save_compact(output_dir, compact, model.adapter, tensors)
    made = f"{output_dir}: {size / 1e6:.1f} MB, on {names[0]} and {names[1]}"
    if size > MOST_BYTES:
        made += f"\nwarning: more than {MOST_BYTES / 1e6:g} MB: fewer token ids make it smaller"
    return made


def origin(directory: str) -> str:
    """The name under which a directory of `espnet_prune.hub.pretrained` was asked for."""
    record = Path(directory) / RECORD
    return read_record(record, ("model",))["model"] if record.is_file() else directory
