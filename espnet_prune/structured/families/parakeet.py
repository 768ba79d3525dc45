"""Parakeet: NeMo's FastConformer, from log-mel spectrograms to 12.5 frames a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ParakeetEncoder, ParakeetEncoderConfig
from transformers.audio_utils import mel_filter_bank

from espnet_prune.structured.families.conformer import (
    ConformerAttention,
    FrozenBatchNorm,
    Sinusoids,
    declare_convolution,
)
from espnet_prune.structured.families.declaration import Declaration
from espnet_prune.structured.families.family import Backbone, Family, ModelInput, Watch, watched
from espnet_prune.structured.families.filterbanks import FFT, FRAME, HOP, PREEMPHASIS, nemo

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
POSITION, BIASES = "relative_k_proj", ("bias_u", "bias_v")
HOLDERS = ("parakeet_ctc", "parakeet_rnnt", "parakeet_tdt")


class ParakeetFamily(Family):
    """Log-mel, convolutions that keep every eighth frame, Conformer; no norm behind the last layer.

    Convolutions and attention are masked: nothing reads the padding behind an utterance. The
    convolutions in front are counted and stay whole.
    """

    front = ("subsampling",)
    size_names = (
        *("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"),
        *("num_mel_bins", "subsampling_conv_channels", "conv_kernel_size"),
    )

    def base_config(self, config: dict) -> dict:
        return {**config, "layerdrop": 0.0}

    def preparation(self, config: dict) -> dict[str, Any]:
        due = {"feature_size": config.get("num_mel_bins", 80), "hop_length": HOP, "n_fft": FFT}
        due |= {"win_length": FRAME, "preemphasis": PREEMPHASIS}
        return super().preparation(config) | due

    def build(self, config: dict) -> Backbone:
        cfg = self.config_class(**config)
        model: Any = self.model_class(cfg)
        model.encode_positions = Sinusoids(cfg.hidden_size)
        heads = cfg.num_attention_heads
        sizes = heads, cfg.hidden_size // heads
        for layer in model.layers:
            attention = layer.self_attn, *sizes, PROJECTIONS, POSITION, BIASES
            layer.self_attn = ConformerAttention(*attention)
            layer.conv.norm = FrozenBatchNorm(cfg.hidden_size, layer.conv.norm.eps)
        shape = {"num_frequency_bins": FFT // 2 + 1, "num_mel_filters": cfg.num_mel_bins}
        limits = {"min_frequency": 0.0, "max_frequency": self.sampling_rate / 2}
        scale = {"norm": "slaney", "mel_scale": "slaney"}
        filters = mel_filter_bank(**shape, **limits, sampling_rate=self.sampling_rate, **scale)
        # A plain attribute, as Whisper's
        model.mel_filters = torch.as_tensor(filters.T, dtype=torch.float32, device="cpu")
        return model

    def dense_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = super().dense_state(state)
        return {k: v.flatten() if k.endswith(BIASES) else v for k, v in state.items()}

    def declare(self, config: dict, seconds: float) -> Declaration:
        cfg = self.config_class(**config)
        d = Declaration()
        rate, bins = self.sampling_rate / HOP, cfg.num_mel_bins
        kernel, stride = cfg.subsampling_conv_kernel_size, cfg.subsampling_conv_stride
        for i in range(cfg.subsampling_factor.bit_length() - 1):
            rate, bins = rate / stride, (bins + (kernel - 1) // 2 * 2 - kernel) // stride + 1
            for name in (3 * i - 1, 3 * i) if i else (0,):  # depthwise and pointwise
                d.linear(f"subsampling.layers.{name}", rate * bins)
        d.linear("subsampling.linear", rate)
        biased = cfg.attention_bias
        options: dict[str, Any] = {"projections": PROJECTIONS, "query_biases": BIASES}
        options |= {"positions": (POSITION, 2.0), "bias": biased, "key_bias": biased}
        sizes = cfg.num_attention_heads, cfg.hidden_size, rate, seconds
        for i in range(cfg.num_hidden_layers):
            layer = f"layers.{i}"
            norms = [f"{layer}.norm_{part}" for part in ("feed_forward1", "self_att", "conv")]
            self._feed_forward(d, f"{layer}.feed_forward1", cfg, rate, norms[0])
            d.attention(f"{layer}.self_attn", *sizes, pre_norm=norms[1], **options)
            convolution = f"{layer}.conv", cfg.hidden_size, rate, "norm", cfg.convolution_bias
            declare_convolution(d, *convolution, pre_norm=norms[2])
            norm = f"{layer}.norm_feed_forward2"
            self._feed_forward(d, f"{layer}.feed_forward2", cfg, rate, norm)
        return d

    def _feed_forward(self, d: Declaration, name: str, cfg: Any, rate: float, norm: str) -> None:
        sizes = f"{name}.linear1", f"{name}.linear2", cfg.intermediate_size, rate, (name,)
        d.feed_forward(name, *sizes, pre_norm=norm, bias=cfg.attention_bias)

    def prepare(
        self, model: Backbone, speech: Tensor, lengths: Tensor | None, full_window: bool
    ) -> ModelInput:
        if lengths is None:
            same = True
            lengths = torch.full((speech.shape[0],), speech.shape[1], device=speech.device)
        else:
            same = bool((lengths == speech.shape[1]).all())
        device = speech.device.type
        with torch.autocast(device, enabled=False):
            features = nemo(speech, lengths, model.mel_filters.to(speech.device))
        time = torch.arange(features.shape[1], device=speech.device)
        mask = None if same else time < (lengths // HOP)[:, None]
        return ModelInput(features, mask, self.frames(model, lengths))

    def forward(
        self, model: Backbone, inputs: ModelInput, watch: Watch | None = None
    ) -> tuple[list[Tensor], Tensor]:
        features = inputs.features.to(model.subsampling.linear.weight.dtype)
        states: list[Tensor] = []
        watch = watch or (lambda number, state: states.append(state))
        with watched(model.layers, watch):
            out = model(features, attention_mask=inputs.mask, output_hidden_states=False)
        return states, out.last_hidden_state

    def layers(self, model: Backbone) -> Sequence[nn.Module]:
        return model.layers

    def frames(self, model: Backbone, lengths: Tensor) -> Tensor:
        return model._get_subsampling_output_length(lengths // HOP).long()

    def samples_per_frame(self, config: dict) -> int:
        return HOP * self.config_class(**config).subsampling_factor

    def minimum_samples(self, config: dict) -> int:
        return 2 * HOP  # of one frame there is no deviation


PARAKEET = ParakeetFamily(
    "parakeet_encoder",
    ParakeetEncoderConfig,
    ParakeetEncoder,
    *("model.encoder.", "encoder."),
    within=dict.fromkeys(HOLDERS, "encoder_config"),
)
