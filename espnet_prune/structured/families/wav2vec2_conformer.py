"""wav2vec 2.0 with Conformer layers, and what w2v-BERT 2.0 shares with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel

from espnet_prune.structured.families.conformer import (
    ConformerAttention,
    FrozenBatchNorm,
    Rotation,
    Sinusoids,
    declare_convolution,
)
from espnet_prune.structured.families.declaration import Declaration
from espnet_prune.structured.families.wav2vec2 import Wav2Vec2Family

PROJECTIONS = ("linear_q", "linear_k", "linear_v", "linear_out")
BIASES = ("pos_bias_u", "pos_bias_v")
POSITION = "linear_pos"
#: where w2v-BERT 2.0 has one embedding for each clipped distance, this is its matrix
DISTANCES = "distance_embedding.weight"


def build_layers(encoder: Any, cfg: Any) -> None:
    """Put this package's layers into an encoder of this kind."""
    kind, heads = cfg.position_embeddings_type, cfg.num_attention_heads
    options: dict[str, Any] = {}
    if kind == "relative":
        options = {"position": POSITION, "biases": BIASES}
        encoder.embed_positions = Sinusoids(cfg.hidden_size)
    elif kind == "rotary":
        encoder.embed_positions = Rotation(cfg.hidden_size // heads, cfg.rotary_embedding_base)
    elif kind == "relative_key":
        distances = cfg.left_max_position_embeddings, cfg.right_max_position_embeddings
        options = {"position": POSITION, "distances": distances}
    for layer in encoder.layers:
        sizes = heads, cfg.hidden_size // heads
        layer.self_attn = ConformerAttention(layer.self_attn, *sizes, PROJECTIONS, **options)


def declare_conformer_layer(
    d: Declaration, layer: str, cfg: Any, rate: float, seconds: float, norm: str
) -> None:
    """Declare a layer: half a feed-forward network, attention, convolution, another half.

    Args:
        norm: name of the norm in the convolution module.
    """
    kind, width = cfg.position_embeddings_type, cfg.hidden_size
    options: dict[str, Any] = {"projections": PROJECTIONS}
    if kind == "relative":
        options |= {"query_biases": BIASES, "positions": (POSITION, 2.0)}
    elif kind == "relative_key":
        distances = cfg.left_max_position_embeddings + cfg.right_max_position_embeddings + 1
        options |= {"positions": (POSITION, distances / (rate * seconds))}

    def feed_forward(name: str) -> None:
        up, down = f"{name}.intermediate_dense", f"{name}.output_dense"
        sizes = cfg.intermediate_size, rate
        d.feed_forward(name, up, down, *sizes, (name,), pre_norm=f"{name}_layer_norm")

    feed_forward(f"{layer}.ffn1")
    sizes = cfg.num_attention_heads, width, rate, seconds
    attention = f"{layer}.self_attn"
    d.attention(attention, *sizes, pre_norm=f"{attention}_layer_norm", **options)
    convolution = f"{layer}.conv_module"
    whole = declare_convolution(d, convolution, width, rate, norm)
    d.norm(f"{convolution}.layer_norm", whole)
    feed_forward(f"{layer}.ffn2")


def layer_state(state: dict[str, Tensor], heads: int) -> dict[str, Tensor]:
    """Tensors of `transformers` under the names, and in the shapes, of `build_layers`."""
    found = {}
    for name, value in state.items():
        if name.endswith(BIASES):
            value = value.flatten()
        elif name.endswith(DISTANCES):
            name = name.replace(DISTANCES, f"{POSITION}.weight")
            value = value.T.repeat(heads, 1)
        found[name] = value
    unused = ("encoder.embed_positions.", "encoder.pos_conv_embed.", "masked_spec_embed")
    return {name: value for name, value in found.items() if not name.startswith(unused)}


class Wav2Vec2ConformerFamily(Wav2Vec2Family):
    """Raw waveform, CNN, Conformer with relative, rotary or no positions.

    As in `transformers`, convolutions read the padding behind an utterance.
    """

    stock_sizes: Mapping[str, str] = {}

    def build_encoder(self, encoder: Any, cfg: Any) -> None:
        del encoder.pos_conv_embed  # `transformers` has it, but does not use it
        build_layers(encoder, cfg)
        for layer in encoder.layers:
            norm = layer.conv_module.batch_norm
            layer.conv_module.batch_norm = FrozenBatchNorm(norm.num_features, norm.eps)

    def dense_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return layer_state(super().dense_state(state), 1)

    def stock_config(self, config: dict, plan: Any) -> dict | None:
        return None

    def declare_positions(self, d: Declaration, cfg: Any, rate: float) -> None:
        """There is no positional convolution."""

    def declare_layer(
        self, d: Declaration, layer: str, cfg: Any, rate: float, seconds: float
    ) -> None:
        declare_conformer_layer(d, layer, cfg, rate, seconds, "batch_norm")


WAV2VEC2_CONFORMER = Wav2Vec2ConformerFamily(
    "wav2vec2-conformer", Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel, "wav2vec2_conformer."
)
