"""SEW (arXiv 2109.06870): wav2vec 2.0 whose Transformer sees a fraction of the frames."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SEWConfig, SEWModel
from transformers.modeling_outputs import BaseModelOutput

from espnet_prune.structured.families.declaration import Axis, Declaration
from espnet_prune.structured.families.family import Backbone, ModelInput, Watch
from espnet_prune.structured.families.layers import PrunablePositionalConv
from espnet_prune.structured.families.wav2vec2 import Wav2Vec2Family


class StridedPositionalConv(PrunablePositionalConv):
    """The positional convolution that also squeezes time: (B, T, D) -> (B, T // stride, D)."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        frames = hidden_states.shape[1] // self.conv.stride[0]
        return super().forward(hidden_states)[:, :frames]


class SqueezingEncoder(nn.Module):
    """Takes the place of `transformers`' SEWEncoder, and has its modules.

    That one asks whether frames are left over, which an ONNX graph for all lengths cannot.
    """

    pos_conv_embed: nn.Module
    pool: nn.AvgPool1d
    layer_norm: nn.LayerNorm
    dropout: nn.Dropout
    layers: nn.ModuleList
    upsample: nn.Module

    def __init__(self, dense: Any):
        super().__init__()
        self.squeeze: int = dense.config.squeeze_factor
        for name, module in dense.named_children():
            setattr(self, name, module)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutput:
        """(B, T, D) -> (B, T, D); the mask (B, T) is true where there is speech."""
        x, mask, time = hidden_states, None, hidden_states.shape[1]
        if attention_mask is not None:
            x = x * attention_mask[..., None]
            mask = F.max_pool1d(attention_mask[:, None].float(), self.squeeze)[:, None].bool()
        x = self.pool(x.transpose(1, 2)).transpose(1, 2) + self.pos_conv_embed(x)
        x = self.dropout(self.layer_norm(x))
        for layer in self.layers:
            x = layer(x, attention_mask=mask)
        x = self.upsample(x)
        return BaseModelOutput(last_hidden_state=F.pad(x, (0, 0, 0, time - x.shape[1])))


class SEWFamily(Wav2Vec2Family):
    """Raw waveform, CNN, means of `squeeze_factor` frames, Transformer, as many frames again.

    The hidden states have the squeezed frames, the last has those of the CNN: a linear layer makes
    `squeeze_factor` of each, and zeros for what was left over.
    """

    positional_class, behind_cnn = StridedPositionalConv, ""
    size_names: tuple[str, ...] = (*Wav2Vec2Family.size_names, "squeeze_factor")

    def build(self, config: dict) -> Backbone:
        model = super().build(config)
        model.encoder = SqueezingEncoder(model.encoder)
        return model

    def declare(self, config: dict, seconds: float) -> Declaration:
        cfg = self.config_class(**config)
        d = Declaration()
        projects = cfg.conv_dim[-1] != cfg.hidden_size
        reader = "feature_projection" if projects else ""
        rate, last = self.declare_cnn(d, cfg, reader, "layer_norm")
        if projects:
            d.linear(reader, rate, columns=last)
            d.block("projection", (reader, reader), Axis(last))
        rate /= cfg.squeeze_factor
        self.declare_positions(d, cfg, rate)
        for i in range(cfg.num_hidden_layers):
            self.declare_layer(d, f"encoder.layers.{i}", cfg, rate, seconds)
        d.linear("encoder.upsample.projection", rate)
        return d

    def stock_config(self, config: dict, plan: Any) -> dict | None:
        found, cfg = super().stock_config(config, plan), self.config_class(**config)
        if found is None:
            return None
        whole = cfg.conv_dim[len(found["conv_dim"]) :]  # the last layer, where nothing projects
        found["conv_dim"] += whole
        same = (found["conv_dim"][-1] == cfg.hidden_size) is bool(whole)
        return found if same else None

    def forward(
        self, model: Backbone, inputs: ModelInput, watch: Watch | None = None
    ) -> tuple[list[Tensor], Tensor]:
        states: list[Tensor] = []
        watch = watch or (lambda number, state: states.append(state))
        _, last = super().forward(model, inputs, watch)
        return states, last

    def frames(self, model: Backbone, lengths: Tensor) -> Tensor:
        found = super().frames(model, lengths)
        return torch.div(found, model.config.squeeze_factor, rounding_mode="floor")

    def samples_per_frame(self, config: dict) -> int:
        return self.samples_per_output(config) * self.config_class(**config).squeeze_factor

    def samples_per_output(self, config: dict) -> int:
        return super().samples_per_frame(config)

    def minimum_samples(self, config: dict) -> int:
        more = self.config_class(**config).squeeze_factor - 1
        return super().minimum_samples(config) + more * self.samples_per_output(config)


SEW = SEWFamily("sew", SEWConfig, SEWModel, "sew.")
