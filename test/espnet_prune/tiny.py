"""Small random models of every family and layout, in `transformers`' own classes."""

from pathlib import Path

import torch
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperModel,
)

from espnet_prune.structured.families import KINDS

CLASSES = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
    "hubert": (HubertConfig, HubertModel),
    "wavlm": (WavLMConfig, WavLMModel),
}
LAYOUTS = ["whisper"] + [f"{f}-{layout}" for f in CLASSES for layout in ("base", "large")]


def dense_model(layout: str, full_size: bool = False, seed: int = 0):
    """A random model whose every parameter matters (biases and norms are not at their defaults)."""
    torch.manual_seed(seed)
    if layout == "whisper":
        sizes = {
            "d_model": 384 if full_size else 24,
            "encoder_layers": 4 if full_size else 3,
            "encoder_attention_heads": 6 if full_size else 4,
            "encoder_ffn_dim": 1536 if full_size else 20,
            "max_source_positions": 1500 if full_size else 60,
        }
        model = WhisperModel(
            WhisperConfig(
                **sizes,
                decoder_layers=1,
                decoder_attention_heads=2,
                decoder_ffn_dim=8,
                vocab_size=60,
                pad_token_id=0,
            )
        )
    else:
        family, layout = layout.split("-")
        sizes = {}
        if not full_size:
            sizes = {
                "hidden_size": 24,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "intermediate_size": 20,
                "conv_dim": (12, 12, 12),
                "conv_stride": (5, 4, 16),
                "conv_kernel": (10, 8, 16),
                "num_conv_pos_embeddings": 8,
                "num_conv_pos_embedding_groups": 4,
            }
        if layout == "large":
            sizes.update(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
        config, kind = CLASSES[family]
        model = kind(config(**sizes))
    if not full_size:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def saved(layout: str, directory: Path, full_size: bool = False) -> Path:
    """A directory in `transformers`' layout."""
    dense_model(layout, full_size).save_pretrained(directory)
    return directory


def batch(seconds: float = 0.8):
    """Two random waveforms (2, T) of different lengths, and the lengths."""
    samples = int(16000 * seconds)
    speech = torch.randn(2, samples, generator=torch.Generator().manual_seed(1))
    return speech, torch.tensor([samples, samples * 7 // 10])


def random_masks(plan, generator, coarse: float = 0.75):
    """Masks of 0 and 1 for every site, with a density of its own for each draw."""
    density = float(torch.rand((), generator=generator))
    masks = {}
    for name, site in plan.sites.items():
        p = coarse if KINDS[site.kind].coarse and site.kind != "head" else density
        masks[name] = (torch.rand(plan.size(name), generator=generator) < p).float()
    return masks


def largest_difference(a, b) -> float:
    """Over all hidden states and the last one."""
    pairs = zip(
        [*a.hidden_states, a.last_hidden_state],
        [*b.hidden_states, b.last_hidden_state],
        strict=True,
    )
    return max(float((x - y).abs().max()) for x, y in pairs)
