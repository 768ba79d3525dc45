"""State dicts of torchaudio's wav2vec 2.0, HuBERT and WavLM models, as its bundles download them.

A state dict does not say how many heads or which strides its model has. The bundles have the
published architectures; for others save

    {"state_dict": model.state_dict(), "config": {arguments of torchaudio's factory}}

with `encoder_num_heads`, `extractor_conv_layer_config`, `encoder_layer_norm_first` and, for a model
that wants it, `normalize_waveform: True`. HuBERT's encoder is the same as wav2vec 2.0's there, and
is imported as `wav2vec2` unless its pre-training head says what it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from espnet_prune.structured.checkpoints.architecture import Contents, Options, rename, strides
from espnet_prune.structured.families.family import strip

# Width of the bundles' models -> heads, and the CNN that all of them have.
HEADS = {768: 12, 1024: 16, 1280: 16, 1920: 16}
KERNELS, STRIDES = [10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2]
WAVLM_MAX_DISTANCE = 800


def matches(content: object) -> bool:
    """Whether an opened file is of this format."""
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    return isinstance(state, dict) and any("encoder.transformer." in str(name) for name in state)


def convert(content: dict) -> Contents:
    """
    Raises:
        ValueError: no published architecture, and no configuration either.
    """
    tensors = content.get("state_dict", content)
    hubert = any(name.startswith("logit_generator.") for name in tensors)
    state = rename(strip(tensors, "model.", "wav2vec2."), "torchaudio")
    base, wavlm = state.sizes(), state.is_wavlm()
    given = content.get("config") if "state_dict" in content else None
    config = Options(_published(base) if given is None else given)
    base |= common(config, base)
    base["num_attention_heads"] = int(config["encoder_num_heads"])
    if wavlm:
        base["max_bucket_distance"] = int(config.get("encoder_max_distance", WAVLM_MAX_DISTANCE))
    family = "wavlm" if wavlm else "hubert" if hubert else "wav2vec2"
    return Contents(family, base, state, bool(config.get("normalize_waveform", False)))


def common(config: Options, base: Mapping) -> dict:
    """Entries of a `transformers` configuration from arguments of torchaudio's factory."""
    name = "extractor_conv_layer_config"
    return {
        "conv_stride": strides(config[name], base, name),
        "do_stable_layer_norm": bool(config["encoder_layer_norm_first"]),
        "hidden_dropout": float(config.get("encoder_dropout", 0.1)),
        "attention_dropout": float(config.get("encoder_attention_dropout", 0.1)),
        "activation_dropout": float(config.get("encoder_ff_interm_dropout", 0.1)),
        "feat_proj_dropout": float(config.get("encoder_projection_dropout", 0.1)),
    }


def _published(base: Mapping) -> dict:
    """The factory's arguments for one of the bundles' architectures.

    In all of them the models with a LayerNorm in every CNN layer normalise before attention and
    feed-forward and take normalised waveforms, and the others do neither.
    """
    heads = HEADS.get(base["hidden_size"])
    if heads is None or base["conv_kernel"] != KERNELS:
        raise ValueError(
            f"a state dict of width {base['hidden_size']} is not one of torchaudio's "
            "bundles: save {'state_dict': …, 'config': {arguments of torchaudio's factory}}"
        )
    large = base["feat_extract_norm"] == "layer"
    return {
        "extractor_conv_layer_config": list(zip(base["conv_dim"], KERNELS, STRIDES, strict=True)),
        "encoder_num_heads": heads,
        "encoder_layer_norm_first": large,
        "normalize_waveform": large,
    }
