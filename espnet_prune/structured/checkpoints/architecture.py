"""What every format turns a file into: tensors under `transformers`' names and a configuration.

keys.yaml has the rules for names: a pattern for the whole name in fairseq's or torchaudio's layout
and what it becomes; null drops a tensor that belongs to pre-training or to a head on top. The new
names are those of the model without heads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from espnet_prune.files.reading import package_table

RULES: dict[str, dict[str, str | None]] = package_table(__package__, "keys.yaml")
POS_CONV = "encoder.pos_conv_embed.conv"


@dataclass
class Contents:
    """A checkpoint in the terms of this project.

    Attributes:
        family: key of `espnet_prune.structured.families.FAMILIES`.
        base: `transformers` configuration of the base architecture.
        state: tensors under `transformers`' names, with the shapes that are left.
        do_normalize: the model takes waveforms of zero mean and unit variance.
        masks: site -> (units,) of 0 and 1, what is left; sites that are absent are whole.
    """

    family: str
    base: dict
    state: dict[str, Tensor]
    do_normalize: bool
    masks: dict[str, Tensor] = field(default_factory=dict)


class Tensors(dict[str, Tensor]):
    """Tensors under `transformers`' names, of which one that has to be there may be missing."""

    def __missing__(self, name: str) -> Tensor:
        raise ValueError(f"lacks tensor {name} (`transformers`' name): incomplete")

    def is_wavlm(self) -> bool:
        """Whether attention has WavLM's gated relative position bias."""
        return any(".gru_rel_pos_" in name for name in self)

    def sizes(self) -> dict:
        """What the shapes say about the architecture; of a slimmed model, what is left of it."""
        cnn = "feature_extractor.conv_layers"
        kernels = [self[f"{cnn}.{i}.conv.weight"] for i in range(self._count(cnn))]
        layers = self._count("encoder.layers")
        if not kernels or not layers:
            raise ValueError("lacks the tensors of the CNN or of the Transformer")
        leaves = ("parametrizations.weight.original1", "weight", "weight_v")
        names = [f"{POS_CONV}.{leaf}" for leaf in leaves if f"{POS_CONV}.{leaf}" in self]
        direction = self[names[0] if names else f"{POS_CONV}.weight_v"]
        base = {
            "conv_dim": [weight.shape[0] for weight in kernels],
            "conv_kernel": [weight.shape[2] for weight in kernels],
            "conv_bias": f"{cnn}.0.conv.bias" in self,
            "feat_extract_norm": "layer" if f"{cnn}.1.layer_norm.weight" in self else "group",
            "hidden_size": self["feature_projection.projection.weight"].shape[0],
            "num_hidden_layers": layers,
            "num_conv_pos_embeddings": direction.shape[2],
            "num_conv_pos_embedding_groups": direction.shape[0] // direction.shape[1],
        }
        for entry, name in (
            ("intermediate_size", "encoder.layers.0.feed_forward.intermediate_dense.weight"),
            ("num_buckets", "encoder.layers.0.attention.rel_attn_embed.weight"),
        ):
            if name in self:
                base[entry] = self[name].shape[0]
        return base

    def _count(self, prefix: str) -> int:
        found = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in self)
        return max((int(match[1]) + 1 for match in found if match), default=0)


class Options(dict[str, Any]):
    """A checkpoint's configuration, of which an entry that has to be there may be missing."""

    def __getitem__(self, name: str) -> Any:
        if self.get(name) is None:
            raise ValueError(f"its configuration lacks '{name}'")
        return super().__getitem__(name)


def strides(layers: Sequence[Sequence], base: Mapping, name: str) -> list[int]:
    """Of the CNN, from (channels, kernel, stride) of each layer: the entry `name` of a checkpoint's
    configuration, which has to fit the sizes of its tensors."""
    expected = list(zip(base["conv_dim"], base["conv_kernel"], strict=True))
    if [(int(dim), int(kernel)) for dim, kernel, _ in layers] != expected:
        raise ValueError(f"{name} does not fit the tensors")
    return [int(stride) for _, _, stride in layers]


def rename(state: Mapping[str, Tensor], layout: str) -> Tensors:
    """Tensors of a layout, "fairseq" or "torchaudio", under `transformers`' names; Q, K, V apart.

    Raises:
        ValueError: no rule knows a tensor.
    """
    out = Tensors()
    for name, value in state.items():
        found = ((re.fullmatch(pattern, name), new) for pattern, new in RULES[layout].items())
        match, new = next((each for each in found if each[0]), (None, None))
        if match is None:
            raise ValueError(f"unknown tensor {name}: no wav2vec 2.0, HuBERT or WavLM")
        if new is not None:
            out[match.expand(new)] = value
    for name in [name for name in out if ".attention.qkv." in name]:
        parts = out.pop(name).chunk(3)
        for letter, part in zip("qkv", parts, strict=True):
            out[name.replace(".qkv.", f".{letter}_proj.")] = part
    return out
