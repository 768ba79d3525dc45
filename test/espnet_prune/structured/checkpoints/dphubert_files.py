"""Files of DPHuBERT's format, cut out of torchaudio's dense models.

The dense model is the reference: units that the file does not have are silenced in it (columns of
the matrices that read them are zero), which in these places is the same as their absence. Only the
channels of the CNN have to be really absent, since a LayerNorm reads the last of them; torchaudio's
factory takes their numbers.
"""

import torch

from test.espnet_prune.structured.checkpoints.torchaudio_models import build, config

CHANNELS = (8, 6, 7, 8, 5, 6, 7)
HEADS = ([0, 2, 3], [], [1])  # of four; the second layer has no attention
FFN = (13, 20, 0)  # of 20; the third layer has no feed-forward network


def cut(layout, wavlm, gain, heads=HEADS, ffn=FFN, channels=CHANNELS, seed=0, **changes):
    """(content of the file, silenced torchaudio model with the gain on its CNN's output).

    Args:
        gain: the soft masks that DPHuBERT keeps of the last CNN layer, or ones.
    """
    kernels = [10, 3, 3, 3, 3, 2, 2]
    strides = [5, 2, 2, 2, 2, 2, 2]
    layers = list(zip(channels, kernels, strides, strict=True))
    arguments = config(layout, wavlm, extractor_conv_layer_config=layers, **changes)
    model = build(arguments, seed)
    width, total = arguments["encoder_embed_dim"], arguments["encoder_num_heads"]
    size = width // total
    state = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for i, layer in enumerate(model.encoder.transformer.layers):
            _cut_attention(state, layer, i, heads[i], size, wavlm)
            _cut_feed_forward(state, layer, i, ffn[i], generator)
    weight = torch.ones(channels[-1])
    if gain:
        weight = torch.sigmoid(torch.randn(channels[-1], generator=generator))
    state["feature_extractor.dummy_weight"] = weight
    model.feature_extractor.register_forward_hook(lambda m, i, o: (o[0] * weight, o[1]))
    numbers = arguments.pop("encoder_num_heads")
    assert numbers == total
    left = {
        "encoder_use_attention": [bool(h) for h in heads],
        "encoder_use_feed_forward": [bool(n) for n in ffn],
        "encoder_ff_interm_features": list(ffn),
        "normalize_waveform": False,
        "extractor_prune_conv_channels": False,
    }
    if wavlm:
        left["encoder_total_num_heads"] = [total] * len(heads)
        left["encoder_remaining_heads"] = [list(h) for h in heads]
    else:
        left["encoder_num_heads"] = [len(h) for h in heads]
        left["encoder_head_dim"] = size
    return {"state_dict": state, "config": {**arguments, **left}}, model


def _cut_attention(state, layer, i, heads, size, wavlm):
    prefix = f"encoder.transformer.layers.{i}.attention."
    out = layer.attention.attention.out_proj if wavlm else layer.attention.out_proj
    kept = torch.tensor([h * size + d for h in heads for d in range(size)], dtype=torch.long)
    silent = torch.ones(out.weight.shape[1], dtype=torch.bool)
    silent[kept] = False
    dense = {name: state.pop(name) for name in list(state) if name.startswith(prefix)}
    dense = {name[len(prefix) :]: value for name, value in dense.items()}
    if wavlm:  # DPHuBERT has the projections apart
        for part in ("weight", "bias"):
            joined = dense.pop(f"attention.in_proj_{part}")
            for letter, value in zip("qkv", joined.split(len(joined) // 3), strict=True):
                dense[f"{letter}_proj.{part}"] = value
            dense[f"out_proj.{part}"] = dense.pop(f"attention.out_proj.{part}")
    out.weight[:, silent] = 0
    if not heads:
        out.bias.zero_()
        return
    for letter in "qkv":
        for part in ("weight", "bias"):
            dense[f"{letter}_proj.{part}"] = dense[f"{letter}_proj.{part}"][kept]
    dense["out_proj.weight"] = dense["out_proj.weight"][:, kept]
    state.update({prefix + name: value for name, value in dense.items()})


def _cut_feed_forward(state, layer, i, count, generator):
    prefix = f"encoder.transformer.layers.{i}.feed_forward."
    up, down = (f"{prefix}{name}.weight" for name in ("intermediate_dense", "output_dense"))
    total = layer.feed_forward.output_dense.weight.shape[1]
    kept = torch.randperm(total, generator=generator)[:count].sort().values
    silent = torch.ones(total, dtype=torch.bool)
    silent[kept] = False
    layer.feed_forward.output_dense.weight[:, silent] = 0
    if not count:
        layer.feed_forward.output_dense.bias.zero_()
        for name in [name for name in state if name.startswith(prefix)]:
            del state[name]
        return
    state[up], state[down] = state[up][kept], state[down][:, kept]
    state[f"{prefix}intermediate_dense.bias"] = state[f"{prefix}intermediate_dense.bias"][kept]
