"""The Whisper encoder: what can be pruned, and how to read it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from espnet_prune.structured.families.declaration import Axis, Declaration, Scale
from espnet_prune.structured.families.family import Backbone, Family, ModelInput, Watch
from espnet_prune.structured.families.layers import PrunableAttention

HOP = 160
FFT = 400
STRIDE = 2 * HOP  # samples per frame: the second convolution halves the rate
_AS_IS = contextlib.nullcontext()


def log_mel(speech: Tensor, lengths: Tensor, filters: Tensor, samples: int) -> Tensor:
    """Whisper's log-mel spectrogram, each utterance padded with silence to `samples`.

    max(log10(mel), m - 8) / 4 + 1 with m the loudest value of the utterance.

    Args:
        speech: (B, T) 16 kHz; what lies beyond `lengths` (B,) is taken for silence.
        filters: (bins, FFT / 2 + 1) mel filters.
        samples: multiple of `HOP`.
    Returns: (B, bins, samples / HOP) float32
    """
    # FFT samples more, so that the last frame sees silence whatever the length of the batch
    total = samples + FFT
    speech = F.pad(speech[:, :samples], (0, total - min(samples, speech.shape[1])))
    speech = speech * (torch.arange(total, device=speech.device)[None] < lengths[:, None])
    window = torch.hann_window(FFT, device=speech.device)
    # float32 always: half precision overflows in the squares, and autocast would take it for the
    # product, in which the mel bins of silence underflow
    spectrum = torch.stft(speech.float(), FFT, HOP, window=window, return_complex=True)
    power = spectrum[..., : samples // HOP].abs().square()
    device = speech.device.type
    # no block where there is no autocast: exported graphs are as they were
    with torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else _AS_IS:
        mel = filters.float() @ power
    mel = mel.clamp(min=1e-10).log10()
    floor = mel.amax(dim=(1, 2), keepdim=True) - 8.0
    return torch.maximum(mel, floor) / 4.0 + 1.0


class WhisperFamily(Family):
    """Log-mel, two convolutions, Transformer; trained on windows of 30 s only.

    With `full_window` every utterance is padded with silence to 30 s, which the hidden states of
    the speech itself depend on and which Whisper's own decoder needs. Without, the window is the
    longest utterance of the batch; frames of shorter ones beyond their end are masked in the
    attention, so that an utterance gives the same in any batch. That is cheap and good enough
    for frame-wise use of a frozen encoder.
    """

    has_window = True
    front = ("conv1", "conv2")
    size_names = (
        *("encoder_layers", "d_model", "encoder_attention_heads", "encoder_ffn_dim"),
        *("max_source_positions", "num_mel_bins"),
    )

    def base_config(self, config: dict) -> dict:
        names = (
            "num_mel_bins d_model encoder_layers encoder_attention_heads encoder_ffn_dim "
            "activation_function dropout attention_dropout activation_dropout scale_embedding "
            "max_source_positions"
        )
        own = self.config_class.attribute_map
        stored = [own.get(name, name) for name in names.split()]  # Voxtral calls them otherwise
        return {name: config[name] for name in stored if name in config}

    def preparation(self, config: dict) -> dict[str, int]:
        bins = config.get("num_mel_bins", 80)
        due = {"n_fft": FFT, "hop_length": HOP, "feature_size": bins}
        return super().preparation(config) | due

    def build(self, config: dict) -> Backbone:
        model = self.model_class(self.config_class(**config))
        for layer in model.layers:
            layer.self_attn = PrunableAttention(layer.self_attn)
        extractor = WhisperFeatureExtractor(model.num_mel_bins, hop_length=HOP, n_fft=FFT)
        filters = extractor.mel_filters.T
        # A plain attribute: `from_pretrained` builds on the meta device, where buffers are lost.
        model.mel_filters = torch.as_tensor(filters, dtype=torch.float32, device="cpu")
        return model

    def declare(self, config: dict, seconds: float) -> Declaration:
        cfg = self.config_class(**config)
        d = Declaration()
        rate = self.sampling_rate / STRIDE
        scales = (Scale("conv2.weight", 1),)
        cnn = d.site("conv1", "cnn", cfg.d_model, scales=scales, at_least=1)
        d.linear("conv1", 2 * rate, rows=cnn)
        d.linear("conv2", rate, columns=cnn)
        d.block("cnn", ("conv1", "conv2"), Axis(cnn))
        sizes = (cfg.encoder_attention_heads, cfg.d_model, rate, seconds)
        for i in range(cfg.encoder_layers):
            layer = f"layers.{i}"
            attention, up, down = f"{layer}.self_attn", f"{layer}.fc1", f"{layer}.fc2"
            first, second = f"{layer}.self_attn_layer_norm", f"{layer}.final_layer_norm"
            d.attention(attention, *sizes, key_bias=False, pre_norm=first)
            d.feed_forward(layer, up, down, cfg.encoder_ffn_dim, rate, (up, down), pre_norm=second)
        return d

    def prepare(
        self, model: Backbone, speech: Tensor, lengths: Tensor | None, full_window: bool
    ) -> ModelInput:
        filters = model.mel_filters.to(speech.device)
        same = lengths is None
        if lengths is None:
            lengths = torch.full((speech.shape[0],), speech.shape[1], device=speech.device)
        frames = self.frames(model, lengths)
        if full_window:
            samples = model.max_source_positions * STRIDE
        elif same:
            samples = (speech.shape[1] + STRIDE - 1) // STRIDE * STRIDE
        else:
            samples = int(frames.max()) * STRIDE
        features = log_mel(speech, lengths, filters, samples)
        inside = None
        if not (full_window or same) and bool((frames < frames.max()).any()):
            inside = torch.arange(samples // STRIDE, device=frames.device)[None] < frames[:, None]
        return ModelInput(features, inside, frames)

    def forward(
        self, model: Backbone, inputs: ModelInput, watch: Watch | None = None
    ) -> tuple[list[Tensor], Tensor]:
        features, inside, _ = inputs
        features = features.to(model.conv1.weight.dtype)
        mask, wide = inside, None
        if inside is not None and inside.dim() == 2:
            # The convolutions' own padding is zero, so a shorter utterance ends in zeros, too.
            wide = inside.repeat_interleave(2, 1)[:, None]
            features = features * wide
            mask = inside[:, None, None, :]
        x = F.gelu(model.conv1(features))
        if wide is not None:
            x = x * wide
        x = F.gelu(model.conv2(x)).transpose(1, 2)
        x = x + model.embed_positions.weight[: x.shape[1]]
        x = F.dropout(x, model.dropout, model.training)
        states: list[Tensor] = []
        watch = watch or (lambda number, state: states.append(state))
        for number, layer in enumerate(model.layers):
            watch(number, x)
            x = layer(x, mask)
        last = model.layer_norm(x)
        watch(len(model.layers), last)
        return states, self.output(model, x, last)

    def output(self, model: Backbone, x: Tensor, last: Tensor) -> Tensor:
        """The model's output from that of its last layer (B, T, D), before and after the norm."""
        return last

    def layers(self, model: Backbone) -> Sequence[nn.Module]:
        return model.layers

    def frames(self, model: Backbone, lengths: Tensor) -> Tensor:
        return (lengths + STRIDE - 1) // STRIDE

    def samples_per_frame(self, config: dict) -> int:
        return STRIDE

    def minimum_samples(self, config: dict) -> int:
        return 1

    def maximum_samples(self, config: dict) -> int | None:
        return self.config_class(**config).max_source_positions * STRIDE


WHISPER = WhisperFamily("whisper", WhisperConfig, WhisperEncoder, "model.encoder.", "encoder.")
