"""DPHuBERT's and DPWavLM's `.pth`, and DiariZen's: torchaudio's models with layers of own sizes.

    {"state_dict": tensors, "config": what is left of every layer, …}

The configuration gives whether a layer has attention and a feed-forward network, and WavLM's
heads by number; of all else only the number of units is known, so the first units of the base
architecture stand for them (which ones they were makes no difference to the function). The base
architecture is taken for 512 CNN channels and a feed-forward layer of 4 times the width, as in
the published models, unless a layer has more.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from espnet_prune.structured.checkpoints.architecture import Contents, Options, rename
from espnet_prune.structured.checkpoints.torchaudio import WAVLM_MAX_DISTANCE, common

CNN_CHANNELS = 512
GAIN = "feature_projection.layer_norm.gain"


def matches(content: object) -> bool:
    """Whether an opened file is of this format."""
    config = content.get("config") if isinstance(content, dict) else None
    return isinstance(config, dict) and "encoder_use_attention" in config


def convert(content: dict) -> Contents:
    """
    Raises:
        ValueError: the model still has gates, or tensors and configuration contradict each other.
    """
    config, state = Options(content["config"]), Options(content)["state_dict"]
    gates = [name for name in state if "hard_concrete" in name]
    if gates:
        raise ValueError(f"has gates ({gates[0]}): run DPHuBERT's prune.py on it first")
    state = rename(state, "torchaudio")
    left = state.sizes()
    base = {**left, **common(config, left)}
    width, layers = left["hidden_size"], left["num_hidden_layers"]
    wavlm = state.is_wavlm() or "encoder_remaining_heads" in config
    heads, head_dim = _heads(config, width)
    attends = _per_layer(config, "encoder_use_attention", layers)
    feeds = _per_layer(config, "encoder_use_feed_forward", layers)
    up = "encoder.layers.{}.feed_forward.intermediate_dense.weight"
    feed_forward = [state[up.format(i)].shape[0] if feeds[i] else 0 for i in range(layers)]
    remaining = [
        _remaining_heads(config, state, i, head_dim, wavlm) if present else []
        for i, present in enumerate(attends)
    ]
    base |= {
        "conv_dim": [max(CNN_CHANNELS, *left["conv_dim"])] * len(left["conv_dim"]),
        "num_attention_heads": heads,
        "intermediate_size": max(4 * width, *feed_forward),
    }
    if wavlm:
        _complete_position_bias(config, base, state, remaining)
    if base["do_stable_layer_norm"]:  # the norm before a sub-layer that is gone is not used
        for norm, present in (("layer_norm", attends), ("final_layer_norm", feeds)):
            gone = tuple(f"encoder.layers.{i}.{norm}." for i in range(layers) if not present[i])
            state = {name: value for name, value in state.items() if not name.startswith(gone)}
    if GAIN in state:  # the soft masks of the last CNN layer, which no weight can take over
        if bool((state[GAIN] == 1).all()):
            del state[GAIN]
        else:
            base["feat_proj_gain"] = True
    masks = _masks(base, left["conv_dim"], remaining, feed_forward)
    # HuBERT and wav2vec 2.0 are one architecture, and the file does not say which it was.
    family = "wavlm" if wavlm else "hubert"
    return Contents(family, base, state, bool(config.get("normalize_waveform", False)), masks)


def _masks(base: Mapping, channels: list[int], heads: list[list[int]], dims: list[int]) -> dict:
    """What is left of every site: CNN channels, numbers of heads, feed-forward dimensions.

    A sub-layer of which nothing is left is gone as a whole.
    """
    masks = {
        f"feature_extractor.conv_layers.{i}.cnn": _first(count, base["conv_dim"][i])
        for i, count in enumerate(channels)
    }
    for i, (numbers, count) in enumerate(zip(heads, dims, strict=True)):
        layer = f"encoder.layers.{i}"
        masks[f"{layer}.attention.mha"] = _first(int(bool(numbers)), 1)
        kept = [float(head in numbers) for head in range(base["num_attention_heads"])]
        masks[f"{layer}.attention.head"] = torch.tensor(kept)
        masks[f"{layer}.ffn"] = _first(int(bool(count)), 1)
        masks[f"{layer}.ffn_dim"] = _first(count, base["intermediate_size"])
    return masks


def _first(count: int, size: int) -> Tensor:
    """(size,) the mask that keeps the first `count` units."""
    return (torch.arange(size) < count).float()


def _per_layer(config: Options, name: str, layers: int) -> list:
    values = config[name]
    if not isinstance(values, (list, tuple)) or len(values) != layers:
        raise ValueError(f"'{name}' of its configuration is not one value per layer")
    return list(values)


def _heads(config: Options, width: int) -> tuple[int, int]:
    """Heads of the base architecture, and their dimensions."""
    if "encoder_total_num_heads" in config:
        totals = set(config["encoder_total_num_heads"])
        if len(totals) != 1 or width % (heads := totals.pop()):
            raise ValueError(f"encoder_total_num_heads does not fit a width of {width}")
        return heads, width // heads
    head_dim = int(config["encoder_head_dim"])
    return width // head_dim, head_dim


def _remaining_heads(
    config: Options, state: Mapping, layer: int, head_dim: int, wavlm: bool
) -> list[int]:
    """Numbers of a layer's heads: from the configuration for WavLM, else the first ones."""
    rows = state[f"encoder.layers.{layer}.attention.q_proj.weight"].shape[0]
    if not wavlm:
        return list(range(rows // head_dim))
    numbers = list(config["encoder_remaining_heads"][layer])
    if len(numbers) * head_dim != rows or numbers != sorted(set(numbers)):
        raise ValueError(f"encoder_remaining_heads of layer {layer} does not fit its tensors")
    return numbers


def _complete_position_bias(
    config: Options, base: dict, state: dict[str, Tensor], remaining: list[list[int]]
) -> None:
    """Bring WavLM's position bias into the shapes of `PrunableRelativeAttention`.

    DPHuBERT keeps the gates' constants of dropped heads. The table goes with the first layer's
    attention there, after which no layer has a position bias: a table of zeros says the same.
    """
    base["max_bucket_distance"] = int(config.get("encoder_max_distance", WAVLM_MAX_DISTANCE))
    base["num_buckets"] = int(config["encoder_num_buckets"])
    table = "encoder.layers.0.attention.rel_attn_embed.weight"
    if table not in state and not remaining[0]:
        state[table] = torch.zeros(base["num_buckets"], base["num_attention_heads"])
    for i, heads in enumerate(remaining):
        if heads:
            name = f"encoder.layers.{i}.attention.gru_rel_pos_const"
            state[name] = state[name][:, heads]
