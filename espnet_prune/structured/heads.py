"""What follows the encoder in a fine-tuned model: kept, saved with it, and run by `transformers`.

The head is `transformers`' own model without its encoder, into whose place a pruned one comes. An
encoder directory with a head holds, beside the encoder, the head's tensors under `head.`, its
configuration as the entry `head`, and the files of the processor. After
`import espnet_prune.structured` the Auto classes and pipelines of `transformers` load it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    AutoModelForAudioClassification,
    AutoModelForAudioFrameClassification,
    AutoModelForAudioXVector,
    AutoModelForCTC,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

from espnet_prune.files.reading import read_text
from espnet_prune.structured.encoder import (
    HEAD,
    SpeechEncoder,
    SpeechEncoderConfig,
    check_keys,
    family_named,
    find_file,
    load_encoder,
    read_model_config,
    read_state,
)
from espnet_prune.structured.tensor_files import check_finite

#: what a processor is made of: preparation of audio, and tokenizer
PROCESSOR = (
    *("preprocessor_config.json", "processor_config.json", "tokenizer_config.json"),
    *("tokenizer.json", "vocab.json", "special_tokens_map.json", "added_tokens.json"),
)


class _Base(nn.Module):
    """Stands where a head has its encoder, and calls one that belongs to another module."""

    encoder: Any

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.__dict__["encoder"] = encoder  # not a child: its tensors have their names already

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.encoder(*args, **kwargs)


class _Given(nn.Module):
    """Stands where a head has its encoder, and gives a state that was set from outside."""

    state: Tensor

    def forward(self, *args: Any, **kwargs: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.state)


@dataclass(frozen=True)
class Head:
    """What a checkpoint has behind its encoder.

    Attributes:
        architecture: class of `transformers`, e.g. "Wav2Vec2ForCTC".
        config: configuration of that class.
        state: its tensors without those of the encoder, float32.
        files: name -> content of the files of the processor, as far as they are there.
    """

    architecture: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    files: dict[str, str] = field(default_factory=dict)

    def predictor(self) -> Predictor:
        """The frozen head by itself."""
        return Predictor(self)


class Predictor:
    """Predictions of a frozen head from the last hidden states.

    Not a `Module`, as `Teacher`: it stays out of checkpoints and optimisers.

    Raises:
        ValueError: the head reads the states of all layers.
    """

    def __init__(self, head: Head):
        if head.config.get("use_weighted_layer_sum"):
            raise ValueError(f"{head.architecture} with use_weighted_layer_sum reads all layers")
        self.given = _Given()
        self.model = build_head(head.architecture, head.config, self.given)
        self.model.load_state_dict(head.state, assign=True)
        self.model.eval().requires_grad_(False)

    def log_probabilities(self, state: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, C), or (B, C) of whole utterances; nothing is padded."""
        if self.model.device != state.device:
            self.model.to(state.device)
        self.given.state = state
        return self.model(None).logits.float().log_softmax(-1)

    def divergence(self, teacher: Tensor, student: Tensor, lengths: Tensor) -> Tensor:
        """KL(teacher || student) of the predictions, the mean over all of them.

            sum_c p_t(c) (log p_t(c) - log p_s(c))

        Args:
            teacher, student: (B, T, D) last hidden states.
            lengths: (B,) frames.
        """
        total, count = student.new_zeros(()), 0
        for wanted, found, frames in zip(teacher, student, lengths.tolist(), strict=True):
            with torch.no_grad():
                p = self.log_probabilities(wanted[None, :frames])
            q = self.log_probabilities(found[None, :frames])
            each = nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
            total, count = total + each.sum(), count + each.numel()
        return total / max(count, 1)


class SpeechEncoderWithHead(PreTrainedModel):
    """A dense or pruned encoder and a head of `transformers`, which is called as that is."""

    config_class = SpeechEncoderConfig
    config: SpeechEncoderConfig
    base_model_prefix = ""
    _supports_sdpa = True

    def __init__(self, config: SpeechEncoderConfig):
        super().__init__(config)
        if not isinstance(config.head, dict):
            raise ValueError("config.json: has no 'head', it is an encoder alone")
        self.backbone = SpeechEncoder(config).backbone
        self.head = build_head(
            config.head.get("architecture"), config.head.get("config"), _Base(self.backbone)
        )
        self.main_input_name = self.head.main_input_name
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Backbones and heads initialise themselves."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the head's own class: `input_values` or `input_features`, `attention_mask`, …"""
        return self.head(*args, **kwargs)


class SpeechEncoderForCTC(SpeechEncoderWithHead):
    """With a `*ForCTC` of `transformers`."""


class SpeechEncoderForSequenceClassification(SpeechEncoderWithHead):
    """With a `*ForSequenceClassification` of `transformers`."""


class SpeechEncoderForAudioFrameClassification(SpeechEncoderWithHead):
    """With a `*ForAudioFrameClassification` of `transformers`."""


class SpeechEncoderForXVector(SpeechEncoderWithHead):
    """With a `*ForXVector` of `transformers`."""


#: how names of classes with a head end -> ours, and the Auto class of `transformers`
KINDS: dict[str, tuple[type[SpeechEncoderWithHead], Any]] = {
    "ForCTC": (SpeechEncoderForCTC, AutoModelForCTC),
    "ForSequenceClassification": (
        SpeechEncoderForSequenceClassification,
        AutoModelForAudioClassification,
    ),
    "ForAudioFrameClassification": (
        SpeechEncoderForAudioFrameClassification,
        AutoModelForAudioFrameClassification,
    ),
    "ForXVector": (SpeechEncoderForXVector, AutoModelForAudioXVector),
}
for _ours, _auto in KINDS.values():
    _auto.register(SpeechEncoderConfig, _ours, exist_ok=True)


def kind_of(architecture: Any) -> str | None:
    """The key of `KINDS` that a class belongs to, None for one of no kind."""
    return next((end for end in KINDS if str(architecture).endswith(end)), None)


def build_head(architecture: Any, config: Any, base: nn.Module) -> Any:
    """A model of `transformers` around `base`, its own tensors without memory (meta device).

    Raises:
        ValueError: there is no such class, or the configuration is not of one.
    """
    made = getattr(transformers, str(architecture), None) if kind_of(architecture) else None
    if made is None:
        known = ", ".join(f"*{end}" for end in KINDS)
        raise ValueError(f"config.json: 'head' is {architecture!r}, but has to be one of {known}")
    try:
        with torch.device("meta"):
            model = made(made.config_class(**config))
    except Exception as error:  # `transformers` and its validation have their own, many
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"config.json: describes no {architecture}: {reason}") from None
    own = getattr(model, model.base_model_prefix, None)
    name = model.base_model_prefix if isinstance(own, nn.Module) else "encoder"
    setattr(model, name, base)
    return model


def load_head(name_or_path: str | Path) -> Head | None:
    """What a dense or pruned model of a directory or hub name has behind its encoder, if anything.

    Raises:
        FileNotFoundError, ValueError: as `load_encoder`; tensors that do not fit the head's class.
    """
    name = str(name_or_path)
    config = read_model_config(name)
    if config.get("model_type") == SpeechEncoderConfig.model_type:
        stored = config.get("head")
        if stored is None:
            return None
        if not isinstance(stored, dict):
            raise ValueError(f"{name}/config.json: 'head' has to map names to values")
        architecture, config = stored.get("architecture"), stored.get("config") or {}
        state = {k.removeprefix(HEAD): v for k, v in read_state(name).items() if k.startswith(HEAD)}
    else:
        architecture = next(iter(config.get("architectures") or ()), None)
        if kind_of(architecture) is None:
            return None
        family = family_named(config.get("model_type"), where=f"{name}/config.json")
        state = family.without_encoder(read_state(name))
    try:
        wanted = build_head(architecture, config, _Given()).state_dict()
    except ValueError as error:
        raise ValueError(f"{name}/{error}") from None
    check_keys(set(wanted) - set(state), set(state) - set(wanted), f"{name}: ")
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            shapes = f"{tuple(value.shape)} instead of {tuple(wanted[key].shape)}"
            raise ValueError(f"{name}: tensor {key} is {shapes}")
    state = {key: value.to(wanted[key].dtype, copy=True) for key, value in state.items()}
    check_finite(state, name)
    found = ((file, find_file(name, file)) for file in PROCESSOR)
    files = {file: read_text(path) for file, path in found if path}
    return Head(str(architecture), config, state, files)


def with_head(encoder: SpeechEncoder, head: Head) -> SpeechEncoderWithHead:
    """An encoder and what follows it as one model of `transformers`, in eval mode.

    The tensors are those of `encoder`, not copies.
    """
    old, kind = encoder.config, KINDS[str(kind_of(head.architecture))][0]
    stored = {"architecture": head.architecture, "config": head.config}
    config = SpeechEncoderConfig(old.family, old.base, old.kept, old.do_normalize, stored)
    with torch.device("meta"):
        model = kind(config)
    model.backbone.load_state_dict(encoder.backbone.state_dict(), assign=True)
    model.head.load_state_dict(head.state, assign=True)
    return model.eval()


def load_model(name_or_path: str | Path) -> SpeechEncoderWithHead:
    """Load a dense or pruned model with its head, from a directory or hub name.

    It is called as `transformers`' own class of the head.

    Raises:
        FileNotFoundError, ValueError: as `load_encoder`; the model is an encoder alone.

    >>> from tempfile import mkdtemp
    >>> from transformers import HubertConfig, HubertForCTC
    >>> folder = mkdtemp()
    >>> sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    >>> HubertForCTC(HubertConfig(num_hidden_layers=2, **sizes)).save_pretrained(folder)
    >>> tuple(load_model(folder)(torch.randn(1, 16000)).logits.shape)
    (1, 49, 32)
    """
    head = load_head(name_or_path)
    if head is None:
        known = ", ".join(f"*{end}" for end in KINDS)
        fault = f"is an encoder alone, or its head is none of {known}: use load_encoder"
        raise ValueError(f"{name_or_path}: {fault}")
    return with_head(load_encoder(name_or_path), head)
