"""A tiny random model of every family in `transformers`' own class, and what that class gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor

from espnet_prune.structured.encoder import zero_mean_unit_variance

WIDTHS = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
WIDTHS["intermediate_size"] = 20
CNN = {"conv_dim": (12, 12, 12), "conv_stride": (5, 4, 16), "conv_kernel": (10, 8, 16)}
POSITIONS = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
TOWER = {"d_model": 24, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 20}
TOWER["max_source_positions"] = 60

#: hidden states of all layers, without what `last_hidden_state` is, and that
States = tuple[list[Tensor], Tensor]


@dataclass(frozen=True)
class Tiny:
    """A model: `transformers`' class by name, its configuration, and how it is called.

    Attributes:
        run: model, waveforms (B, T), lengths (B,), normalise -> its states.
        seconds: what fits into a window, where there is one.
    """

    model: str
    config: dict[str, Any]
    run: Callable[[Any, Tensor, Tensor, bool], States]
    seconds: float = 0.8

    def make(self, name: str = "") -> Any:
        """The model, or another class of the same family, with no parameter at its default."""
        torch.manual_seed(0)
        kind = getattr(transformers, name or self.model)
        model = kind(kind.config_class(**self.config))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
            for key, buffer in model.named_buffers():
                if key.endswith("running_mean"):
                    buffer.normal_(0.0, 0.1)
                elif key.endswith("running_var"):
                    buffer.uniform_(0.5, 1.5)
        return model.eval()


def inside(speech: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(speech.shape[1])[None] < lengths[:, None]


def run_waveform(model: Any, speech: Tensor, lengths: Tensor, normalize: bool) -> States:
    mask = inside(speech, lengths)
    waves = speech * mask
    if normalize:
        waves = zero_mean_unit_variance(waves, lengths) * mask
    out = model(waves, attention_mask=mask.long(), output_hidden_states=True)
    return list(out.hidden_states), out.last_hidden_state


def run_tower(model: Any, speech: Tensor, lengths: Tensor, normalize: bool) -> States:
    """As the processors of speech LLMs prepare audio: a window of log-mel, and its mask."""
    config = model.config
    extract = transformers.WhisperFeatureExtractor(
        config.num_mel_bins, n_samples=None, chunk_length=2
    )
    waves = [wave[:n].numpy() for wave, n in zip(speech, lengths, strict=True)]
    found = extract(waves, sampling_rate=16000, return_tensors="pt", return_attention_mask=True)
    window = config.max_source_positions
    mask = None
    if config.model_type == "qwen2_audio_encoder":
        frames, _ = model._get_feat_extract_output_lengths(found.attention_mask.sum(1))
        mask = torch.zeros(len(frames), 1, window, window)
        mask.masked_fill_((torch.arange(window) >= frames[:, None])[:, None, None], -torch.inf)
    features = found.input_features[..., : 2 * window]
    out = model(features, attention_mask=mask, output_hidden_states=True)
    return list(out.hidden_states), out.last_hidden_state


def normalized(extract: Any, waves: list) -> dict[str, Tensor]:
    """What w2v-BERT's extractor gives, whose own means are sums of rounded numbers: 2e-5 off."""
    found = [torch.from_numpy(extract._extract_fbank_features(w)).double() for w in waves]
    found = [(x - x.mean(0)) / (x.var(0) + 1e-7).sqrt() for x in found]
    pairs = [x[: len(x) // 2 * 2].unflatten(0, (-1, 2)).flatten(1).float() for x in found]
    lengths = torch.tensor([len(x) for x in pairs])
    features = torch.nn.utils.rnn.pad_sequence(pairs, batch_first=True)
    mask = torch.arange(features.shape[1])[None] < lengths[:, None]
    return {"input_features": features, "attention_mask": mask.long()}


def run_features(model: Any, speech: Tensor, lengths: Tensor, normalize: bool) -> States:
    """As the feature extractor of `transformers` prepares audio."""
    waves = [wave[:n].numpy() for wave, n in zip(speech, lengths, strict=True)]
    if model.config.model_type == "wav2vec2-bert":
        bins = model.config.feature_projection_input_dim // 2
        extract = transformers.SeamlessM4TFeatureExtractor(feature_size=bins, num_mel_bins=bins)
        inputs = normalized(extract, waves)
    else:
        extract = transformers.ParakeetFeatureExtractor(feature_size=model.config.num_mel_bins)
        inputs = extract(waves, sampling_rate=16000, return_tensors="pt")
    out = model(**inputs, output_hidden_states=True)
    return list(out.hidden_states), out.last_hidden_state


CLIPPED = {"left_max_position_embeddings": 5, "right_max_position_embeddings": 3}
BERT = {**WIDTHS, "feature_projection_input_dim": 32, "conv_depthwise_kernel_size": 5, **CLIPPED}
FAST = {**WIDTHS, "num_mel_bins": 32, "subsampling_conv_channels": 6, "conv_kernel_size": 5}
NO_BIAS = {"attention_bias": False, "convolution_bias": False}
WAV2VEC2 = {**WIDTHS, **CNN, **POSITIONS}
ZOO = {
    "wav2vec2": Tiny("Wav2Vec2Model", {**WAV2VEC2, **LARGE}, run_waveform),
    "wav2vec2 with adapters": Tiny(
        "Wav2Vec2Model", {**WAV2VEC2, **LARGE, "adapter_attn_dim": 8}, run_waveform
    ),
    "hubert": Tiny("HubertModel", WAV2VEC2, run_waveform),
    "wavlm": Tiny("WavLMModel", WAV2VEC2, run_waveform),
    "unispeech": Tiny("UniSpeechModel", {**WAV2VEC2, **LARGE}, run_waveform),
    "unispeech base": Tiny("UniSpeechModel", WAV2VEC2, run_waveform),
    "unispeech-sat": Tiny("UniSpeechSatModel", {**WAV2VEC2, **LARGE}, run_waveform),
    "unispeech-sat base": Tiny("UniSpeechSatModel", WAV2VEC2, run_waveform),
    "data2vec-audio": Tiny(
        "Data2VecAudioModel",
        {**WAV2VEC2, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 7},
        run_waveform,
    ),
    "sew": Tiny("SEWModel", WAV2VEC2, run_waveform),
    "sew without a projection": Tiny(
        "SEWModel",
        {**WAV2VEC2, "conv_dim": (12, 12, 24), "feat_extract_norm": "layer", "conv_bias": True},
        run_waveform,
    ),
    "wav2vec2-conformer": Tiny(
        "Wav2Vec2ConformerModel",
        {**WAV2VEC2, "conv_depthwise_kernel_size": 5, "position_embeddings_type": "relative"},
        run_waveform,
    ),
    "wav2vec2-conformer rotary": Tiny(
        "Wav2Vec2ConformerModel",
        {
            **{**WAV2VEC2, "feat_extract_norm": "layer", "conv_bias": True},
            "conv_depthwise_kernel_size": 5,
            "position_embeddings_type": "rotary",
        },
        run_waveform,
    ),
    "wav2vec2-bert": Tiny("Wav2Vec2BertModel", BERT, run_features),
    "wav2vec2-bert relative": Tiny(
        "Wav2Vec2BertModel", {**BERT, "position_embeddings_type": "relative"}, run_features
    ),
    "parakeet_encoder": Tiny("ParakeetEncoder", FAST, run_features),
    "parakeet_encoder without biases": Tiny("ParakeetEncoder", {**FAST, **NO_BIAS}, run_features),
    "whisper": Tiny(
        "WhisperModel",
        {**TOWER, "vocab_size": 60, "pad_token_id": 0, "decoder_layers": 1, "decoder_ffn_dim": 8},
        lambda model, *args: run_tower(model.encoder, *args),
    ),
    "qwen2_audio_encoder": Tiny("Qwen2AudioEncoder", TOWER, run_tower),
    "voxtral_encoder": Tiny("VoxtralEncoder", {**WIDTHS, "max_source_positions": 60}, run_tower),
}
