"""The encoders of the speech LLMs Qwen2-Audio and Voxtral, which have Whisper's shape.

A pruned one takes its place again: `model.model.audio_tower = encoder.backbone`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import (
    Qwen2AudioEncoder,
    Qwen2AudioEncoderConfig,
    VoxtralEncoder,
    VoxtralEncoderConfig,
)

from espnet_prune.structured.families.family import Backbone, ModelInput
from espnet_prune.structured.families.whisper import STRIDE, WhisperFamily

PREFIXES = ("model.audio_tower.", "audio_tower.")


class Qwen2AudioFamily(WhisperFamily):
    """Whisper's encoder whose output has half as many frames, 25 a second: the means of two.

    In a full window, as Qwen2-Audio listens, nothing attends to the silence behind the speech. The
    hidden states have 50 frames a second; the last has been through the final norm without that
    mean.
    """

    def prepare(
        self, model: Backbone, speech: Tensor, lengths: Tensor | None, full_window: bool
    ) -> ModelInput:
        inputs = super().prepare(model, speech, lengths, full_window)
        if not full_window:
            return inputs
        time = torch.arange(inputs.features.shape[2] // 2, device=speech.device)
        return inputs._replace(mask=(time < inputs.lengths[:, None])[:, None, None])

    def output(self, model: Backbone, x: Tensor, last: Tensor) -> Tensor:
        return model.layer_norm(model.avg_pooler(x.transpose(1, 2)).transpose(1, 2))

    def minimum_samples(self, config: dict) -> int:
        return STRIDE + 1  # two frames


QWEN2_AUDIO = Qwen2AudioFamily(
    "qwen2_audio_encoder",
    Qwen2AudioEncoderConfig,
    Qwen2AudioEncoder,
    *PREFIXES,
    within={"qwen2_audio": "audio_config"},
)
VOXTRAL = WhisperFamily(
    "voxtral_encoder",
    VoxtralEncoderConfig,
    VoxtralEncoder,
    *PREFIXES,
    within={"voxtral": "audio_config"},
)
