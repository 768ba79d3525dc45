"""Data2Vec for audio: wav2vec 2.0 with a LayerNorm in every CNN layer and a stack of positional
convolutions, which stays whole: a norm without weights stands between any two."""

from __future__ import annotations

from typing import Any

from transformers import Data2VecAudioConfig, Data2VecAudioModel

from espnet_prune.structured.families.declaration import Declaration
from espnet_prune.structured.families.wav2vec2 import Wav2Vec2Family


class Data2VecFamily(Wav2Vec2Family):
    """Raw waveform, CNN, positional convolutions, Transformer of the "base" layout."""

    def build_encoder(self, encoder: Any, cfg: Any) -> None:
        for layer in encoder.layers:
            layer.attention = self.attention_class(layer.attention)

    def declare_positions(self, d: Declaration, cfg: Any, rate: float) -> None:
        for i in range(cfg.num_conv_pos_embeddings):
            d.linear(f"encoder.pos_conv_embed.layers.{i}.conv", rate)


DATA2VEC = Data2VecFamily(
    "data2vec-audio", Data2VecAudioConfig, Data2VecAudioModel, "data2vec_audio."
)
