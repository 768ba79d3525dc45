"""w2v-BERT 2.0: Kaldi's log-mel filterbank, and Conformer layers with causal convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel
from transformers.audio_utils import mel_filter_bank

from espnet_prune.structured.families.declaration import Declaration
from espnet_prune.structured.families.family import Backbone, Family, ModelInput, Watch, states_of
from espnet_prune.structured.families.filterbanks import FFT, FRAME, HOP, kaldi, kaldi_spectrum
from espnet_prune.structured.families.layers import ChannelNorm
from espnet_prune.structured.families.wav2vec2 import NO_MASKS
from espnet_prune.structured.families.wav2vec2_conformer import (
    build_layers,
    declare_conformer_layer,
    layer_state,
)

#: log-mel frames that make one of the model's
STACKED = 2


class Wav2Vec2BertFamily(Family):
    """Two log-mel frames at a time, Conformer; nothing reads the padding behind an utterance."""

    front = ("feature_projection",)
    size_names = (
        *("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"),
        *("feature_projection_input_dim", "conv_depthwise_kernel_size"),
        *("left_max_position_embeddings", "right_max_position_embeddings"),
    )

    def base_config(self, config: dict) -> dict:
        for name in ("add_adapter", "use_intermediate_ffn_before_adapter"):
            if config.get(name):
                fault = "is true, but models with an adapter are not supported"
                raise ValueError(f"{name}: {fault}")
        return config | NO_MASKS

    def preparation(self, config: dict) -> dict[str, int]:
        bins = config.get("feature_projection_input_dim", 160) // STACKED
        return super().preparation(config) | {"num_mel_bins": bins, "stride": STACKED}

    def build(self, config: dict) -> Backbone:
        model: Any = self.model_class(self.config_class(**config))
        build_layers(model.encoder, model.config)
        for layer in model.encoder.layers:
            norm = layer.conv_module.depthwise_layer_norm
            layer.conv_module.depthwise_layer_norm = ChannelNorm(norm.normalized_shape, norm.eps)
        bins = model.config.feature_projection_input_dim // STACKED
        shape = {"num_frequency_bins": FFT // 2 + 1, "num_mel_filters": bins}
        limits = {"min_frequency": 20, "max_frequency": self.sampling_rate // 2}
        scale = {"mel_scale": "kaldi", "triangularize_in_mel_space": True, "norm": None}
        filters = mel_filter_bank(**shape, **limits, sampling_rate=self.sampling_rate, **scale)
        # Plain attributes, as Whisper's
        model.spectrum = kaldi_spectrum()
        model.mel_filters = torch.as_tensor(filters, dtype=torch.float64, device="cpu")
        return model

    def dense_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = super().dense_state(state)
        # each head gets the embeddings of distances for itself
        table = next((v for k, v in state.items() if k.endswith("distance_embedding.weight")), None)
        query = state.get("encoder.layers.0.self_attn.linear_q.weight")
        heads = 1 if table is None or query is None else len(query) // table.shape[1]
        return layer_state(state, heads)

    def declare(self, config: dict, seconds: float) -> Declaration:
        cfg = self.config_class(**config)
        d = Declaration()
        rate = self.sampling_rate / (HOP * STACKED)
        d.linear("feature_projection.projection", rate)
        for i in range(cfg.num_hidden_layers):
            layer = f"encoder.layers.{i}"
            declare_conformer_layer(d, layer, cfg, rate, seconds, "depthwise_layer_norm")
        return d

    def prepare(
        self, model: Backbone, speech: Tensor, lengths: Tensor | None, full_window: bool
    ) -> ModelInput:
        mask = None
        if lengths is None:
            lengths = torch.full((speech.shape[0],), speech.shape[1], device=speech.device)
            same = True
        else:
            same = bool((lengths == speech.shape[1]).all())
        count = (lengths - FRAME) // HOP + 1
        x = kaldi(speech, count, model.spectrum, model.mel_filters)
        frames = self.frames(model, lengths)
        x = x[:, : x.shape[1] // STACKED * STACKED].unflatten(1, (-1, STACKED)).flatten(2)
        if not same:
            mask = (torch.arange(x.shape[1], device=x.device) < frames[:, None]).long()
        return ModelInput(x, mask, frames)

    def forward(
        self, model: Backbone, inputs: ModelInput, watch: Watch | None = None
    ) -> tuple[list[Tensor], Tensor]:
        features = inputs.features.to(model.feature_projection.projection.weight.dtype)
        return states_of(model, self.layers(model), features, inputs.mask, watch)

    def layers(self, model: Backbone) -> Sequence[nn.Module]:
        return model.encoder.layers

    def frames(self, model: Backbone, lengths: Tensor) -> Tensor:
        return ((lengths - FRAME) // HOP + 1) // STACKED

    def samples_per_frame(self, config: dict) -> int:
        return HOP * STACKED

    def minimum_samples(self, config: dict) -> int:
        return FRAME + HOP


WAV2VEC2_BERT = Wav2Vec2BertFamily(
    "wav2vec2-bert", Wav2Vec2BertConfig, Wav2Vec2BertModel, "wav2vec2_bert."
)
