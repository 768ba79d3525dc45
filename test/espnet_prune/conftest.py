"""Tiny models of every family, as `transformers` saves them."""

import pytest
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

HIDDEN, LAYERS = 16, 2
RAW = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
WHISPER = {
    "d_model": HIDDEN,
    "encoder_layers": LAYERS,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 20,
    "decoder_ffn_dim": 20,
    "max_source_positions": 50,
    "vocab_size": 60,
    "pad_token_id": 0,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
MODELS = {
    "wav2vec2": lambda: Wav2Vec2Model(Wav2Vec2Config(**RAW)),
    "hubert": lambda: HubertModel(HubertConfig(**RAW, **LARGE)),
    "wavlm": lambda: WavLMModel(WavLMConfig(**RAW)),
    "whisper": lambda: WhisperModel(WhisperConfig(**WHISPER)),
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Directories of random models by family: 2 layers, 16 wide."""
    directories = {}
    for name, build in MODELS.items():
        torch.manual_seed(1)
        directories[name] = str(tmp_path_factory.mktemp(name))
        build().save_pretrained(directories[name])
    return directories
