"""wav2vec 2.0, HuBERT, WavLM, UniSpeech, UniSpeech-SAT: what can be pruned, how to read them.

One declaration serves all: `transformers` gives them the same skeleton. The "base" layout
has one GroupNorm in the CNN and normalises after each residual; the "large" layout has a
LayerNorm in every CNN layer and normalises before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    HubertConfig,
    HubertModel,
    UniSpeechConfig,
    UniSpeechModel,
    UniSpeechSatConfig,
    UniSpeechSatModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from espnet_prune.structured.families.declaration import Axis, Binding, Declaration, Scale
from espnet_prune.structured.families.family import Backbone, Family, ModelInput, Watch, states_of
from espnet_prune.structured.families.layers import (
    ChannelNorm,
    PrunableAttention,
    PrunablePositionalConv,
    PrunableRelativeAttention,
    ScaledChannelNorm,
)

#: nothing is masked or left out at random: that is for pre-training
NO_MASKS = {
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
}


class Wav2Vec2Family(Family):
    """Raw waveform, CNN feature extractor, positional convolution, Transformer: also HuBERT's.

    Padded batches are masked in the Transformer, as fairseq and torchaudio do. In the "base"
    layout the GroupNorm of the first CNN layer runs over the padding, too, in this as in every
    other implementation, so a padded utterance is close to, not equal to, the same one alone.
    """

    attention_class, positional_class = PrunableAttention, PrunablePositionalConv
    #: what has the LayerNorm behind the CNN, "" for the model itself
    behind_cnn = "feature_projection"
    front = ("feature_extractor",)
    stock_sizes: Mapping[str, str] = {"cnn": "conv_dim", "ffn_dim": "intermediate_size"}
    size_names: tuple[str, ...] = (
        *("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size"),
        *("conv_dim", "conv_kernel", "conv_stride", "num_buckets", "max_bucket_distance"),
        *("num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "conv_pos_kernel_size"),
    )

    def base_config(self, config: dict) -> dict:
        # Masking, adapters and layer drop belong to training recipes; with them off the saved
        # model has no tensors that its forward pass does not use.
        if config.get("add_adapter"):
            raise ValueError("add_adapter: is true, but models with an adapter are not supported")
        return config | NO_MASKS

    def build(self, config: dict) -> Backbone:
        model = self.model_class(self.config_class(**(config | NO_MASKS)))
        self.build_encoder(model.encoder, model.config)
        behind = getattr(model, self.behind_cnn) if self.behind_cnn else model
        for holder in (*model.feature_extractor.conv_layers, behind):
            norm = getattr(holder, "layer_norm", None)
            if isinstance(norm, nn.LayerNorm):
                # a gain is in models that are imported from DPHuBERT
                gain = holder is behind and config.get("feat_proj_gain")
                kind = ScaledChannelNorm if gain else ChannelNorm
                holder.layer_norm = kind(norm.normalized_shape, eps=norm.eps)
        if hasattr(model, "masked_spec_embed"):  # UniSpeech-SAT has it even where nothing is masked
            del model.masked_spec_embed
        return model

    def build_encoder(self, encoder: Any, cfg: Any) -> None:
        """Put this package's layers into what follows the CNN."""
        encoder.pos_conv_embed = self.positional_class(encoder.pos_conv_embed)
        for layer in encoder.layers:
            layer.attention = self.attention_class(layer.attention)

    def dense_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = super().dense_state(state)
        conv = "encoder.pos_conv_embed.conv"
        for names in (
            ("parametrizations.weight.original1", "parametrizations.weight.original0"),
            ("weight_v", "weight_g"),
        ):  # the second are those of older checkpoints
            if all(f"{conv}.{name}" in state for name in names):
                direction, gain = (state.pop(f"{conv}.{name}") for name in names)
                # weight norm over all but the kernel positions (dim 2)
                # in half precision the squares of small weights are zero
                dtype = torch.promote_types(direction.dtype, torch.float32)
                parts = direction.to(dtype), gain.to(dtype)
                state[f"{conv}.weight"] = torch._weight_norm(*parts, 2)
        return {k: v for k, v in state.items() if k != "masked_spec_embed"}

    def stock_config(self, config: dict, plan: Any) -> dict | None:
        left: dict[str, list[int]] = {kind: [] for kind in self.stock_sizes}
        for name, site in plan.sites.items():
            if site.kind in left and ".adapter_layer." not in name:
                left[site.kind].append(plan.size(name))
            elif plan.size(name) < site.size:
                return None
        (dims, *others), channels = set(left["ffn_dim"]), left["cnn"]
        if others or config.get("feat_proj_gain"):
            return None
        return {**config, "intermediate_size": dims, "conv_dim": channels}

    def stock_state(self, state: dict[str, Tensor], config: dict) -> dict[str, Tensor]:
        state, conv = dict(state), "encoder.pos_conv_embed.conv"
        if f"{conv}.weight" in state and not config.get("conv_pos_batch_norm"):
            weight = state.pop(f"{conv}.weight")
            gain = weight.norm(dim=(0, 1), keepdim=True)
            names = ("original0", gain), ("original1", weight)
            state |= {f"{conv}.parametrizations.weight.{name}": value for name, value in names}
        return state

    def declare(self, config: dict, seconds: float) -> Declaration:
        cfg = self.config_class(**config)
        d = Declaration()
        projection = "feature_projection"
        norm = f"{projection}.layer_norm" if getattr(cfg, "feat_proj_layer_norm", True) else None
        rate, last = self.declare_cnn(d, cfg, f"{projection}.projection", norm)
        if config.get("feat_proj_gain"):
            d.tensor(f"{projection}.layer_norm.gain", {0: last})
        d.linear(f"{projection}.projection", rate, columns=last)
        d.block("projection", (projection,) * 2, Axis(last))
        self.declare_positions(d, cfg, rate)
        for i in range(cfg.num_hidden_layers):
            self.declare_layer(d, f"encoder.layers.{i}", cfg, rate, seconds)
        return d

    def declare_cnn(
        self, d: Declaration, cfg: Any, reader: str, norm: str | None
    ) -> tuple[float, str]:
        """Declare the CNN and the LayerNorm `norm` behind it.

        Args:
            reader: the linear layer that reads its output; "" where nothing but the Transformer
                does, and the last layer stays whole.
        Returns: frames per second, and the name of the last layer's site, "" if it stays whole.
        """
        rate = float(self.sampling_rate)
        site = ""  # of the CNN layer before
        last = len(cfg.conv_dim) - 1
        for i, (dim, stride) in enumerate(zip(cfg.conv_dim, cfg.conv_stride, strict=True)):
            rate /= stride
            name, after = (f"feature_extractor.conv_layers.{n}" for n in (i, i + 1))
            previous, reads = site, f"{after}.conv" if i < last else reader
            own_norm = getattr(cfg, "feat_extract_norm", "layer") == "layer"
            scales = [Scale(f"{reads}.weight", 1)]
            if own_norm:
                scales.append(Scale(f"{name}.layer_norm", None))
            if i == last and norm:
                scales.append(Scale(norm, None))
            site = d.site(name, "cnn", dim, scales=tuple(scales), at_least=1) if reads else ""
            d.linear(f"{name}.conv", rate, site, previous or None, has_bias=cfg.conv_bias)
            if own_norm or i == 0:
                d.norm(f"{name}.layer_norm", site)
            d.block(f"cnn.{i}", (name, name), *(Axis(each) for each in (previous, site) if each))
        if norm:
            d.norm(norm, site)
        return rate, site

    def declare_layer(
        self, d: Declaration, layer: str, cfg: Any, rate: float, seconds: float
    ) -> None:
        """Declare a Transformer layer."""
        attention, feed_forward = f"{layer}.attention", f"{layer}.feed_forward"
        up, down = f"{feed_forward}.intermediate_dense", f"{feed_forward}.output_dense"
        stable = getattr(cfg, "do_stable_layer_norm", False)
        norms = (f"{layer}.layer_norm", f"{layer}.final_layer_norm")
        first, second = norms if stable else (None, None)
        sizes = cfg.num_attention_heads, cfg.hidden_size, rate, seconds
        gates = rate * self.gate_macs(cfg)
        mha, head = d.attention(attention, *sizes, pre_norm=first, macs_per_head=gates)
        self.declare_bias(d, attention, mha, head)
        inside = cfg.intermediate_size, rate
        d.feed_forward(layer, up, down, *inside, (feed_forward,), pre_norm=second)
        if stable and getattr(cfg, "adapter_attn_dim", None):  # one a language (MMS)
            adapter = f"{layer}.adapter_layer"
            up, down = f"{adapter}.linear_1", f"{adapter}.linear_2"
            inside = cfg.adapter_attn_dim, rate
            d.feed_forward(adapter, up, down, *inside, (adapter,), pre_norm=f"{adapter}.norm")

    def declare_positions(self, d: Declaration, cfg: Any, rate: float) -> None:
        """Declare the positional convolution."""
        pos = "encoder.pos_conv_embed"
        # The gate multiplies the channel after the activation, i.e. the output of the module.
        site = d.site(pos, "pos_conv", cfg.hidden_size, scales=(Scale(pos, None),))
        d.linear(f"{pos}.conv", rate, rows=site)
        d.bindings.append(Binding(pos, {"kept": site}))
        d.block("pos_conv", (pos, pos), Axis(site))

    def gate_macs(self, cfg: Any) -> float:
        """Multiply-accumulates per frame and head beside the projections and the products."""
        return 0.0

    def declare_bias(self, d: Declaration, prefix: str, mha: str, head: str) -> None:
        """Declare what a family has in its attention beside the four projections."""

    def prepare(
        self, model: Backbone, speech: Tensor, lengths: Tensor | None, full_window: bool
    ) -> ModelInput:
        mask = None
        if lengths is None:
            lengths = torch.full((speech.shape[0],), speech.shape[1], device=speech.device)
        else:
            inside = torch.arange(speech.shape[1], device=speech.device)[None] < lengths[:, None]
            speech = speech * inside
            if not bool(inside.all()):
                mask = inside.long()
        return ModelInput(speech, mask, self.frames(model, lengths))

    def forward(
        self, model: Backbone, inputs: ModelInput, watch: Watch | None = None
    ) -> tuple[list[Tensor], Tensor]:
        features = inputs.features.to(model.feature_extractor.conv_layers[0].conv.weight.dtype)
        return states_of(model, self.layers(model), features, inputs.mask, watch)

    def layers(self, model: Backbone) -> Sequence[nn.Module]:
        return model.encoder.layers

    def cnn_layers(self, model: Backbone) -> Sequence[nn.Module]:
        return model.feature_extractor.conv_layers

    def frames(self, model: Backbone, lengths: Tensor) -> Tensor:
        return model._get_feat_extract_output_lengths(lengths)

    def samples_per_frame(self, config: dict) -> int:
        return math.prod(self.config_class(**config).conv_stride)

    def minimum_samples(self, config: dict) -> int:
        cfg = self.config_class(**config)
        need = 1
        for kernel, stride in zip(cfg.conv_kernel[::-1], cfg.conv_stride[::-1], strict=True):
            need = (need - 1) * stride + kernel
        return need

    def _normalizes(self, config: dict, unknown: bool) -> bool:
        # a feature extractor of `transformers` normalises unless told otherwise
        return config.get("feat_extract_norm", "layer") == "layer" if unknown else True


class WavLMFamily(Wav2Vec2Family):
    """WavLM: gated relative position bias; the table belongs to layer 0 and always stays."""

    attention_class = PrunableRelativeAttention

    def gate_macs(self, cfg: Any) -> float:
        # gru_rel_pos_linear, whose eight rows are summed in fours first
        return 2.0 * cfg.hidden_size / cfg.num_attention_heads

    def declare_bias(self, d: Declaration, prefix: str, mha: str, head: str) -> None:
        d.tensor(f"{prefix}.gru_rel_pos_const", {1: head})
        d.tensor(f"{prefix}.gru_rel_pos_linear.weight", {0: mha})
        d.tensor(f"{prefix}.gru_rel_pos_linear.bias", {0: mha})


WAV2VEC2 = Wav2Vec2Family("wav2vec2", Wav2Vec2Config, Wav2Vec2Model, "wav2vec2.")
HUBERT = Wav2Vec2Family("hubert", HubertConfig, HubertModel, "hubert.")
WAVLM = WavLMFamily("wavlm", WavLMConfig, WavLMModel, "wavlm.")
UNISPEECH = Wav2Vec2Family("unispeech", UniSpeechConfig, UniSpeechModel, "unispeech.")
UNISPEECH_SAT = Wav2Vec2Family(
    "unispeech-sat", UniSpeechSatConfig, UniSpeechSatModel, "unispeech_sat."
)
