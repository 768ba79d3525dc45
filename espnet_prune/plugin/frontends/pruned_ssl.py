"""ESPnet frontend `pruned_ssl`: features from a dense or pruned pretrained encoder."""

from __future__ import annotations

import humanfriendly
import torch
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from torch import Tensor

from espnet_prune.plugin.pretrained_encoder import PretrainedEncoder
from espnet_prune.structured.distill.state_cache import FeatureCache


class PrunedSSLFrontend(AbsFrontend):
    """Hidden states of one layer, or their learned weighted sum over all layers.

    The sum is SUPERB's, sum_i softmax(w)_i h_i with h_0 the first layer's input, the last h the
    model's output, and w trained from zero (S. Yang et al., "SUPERB: Speech processing universal
    performance benchmark", 2021), so it is the mean at first. The h are not normalised.

    In an ESPnet YAML file:

        frontend: pruned_ssl
        frontend_conf:
            model: exp/slim/pruned    # dense or pruned: directory or hub name
            layer: weighted           # or 0 (first layer's input) ... number of layers (output)
            freeze: true
            full_window: true         # Whisper only: pad each utterance to 30 s
            crop_seconds: 8           # train on a random part of longer utterances
            cache: exp/feature_cache  # keep hidden states on disk: faster from the second epoch on

    ESPnet builds the model from its config.yaml again for inference, and needs `model` there, too.
    The weights come from ESPnet's checkpoint, which holds them even when they are frozen.

    Args:
        fs: sampling rate of the speech, as ESPnet's recipes pass it ("16k").
        freeze: do not train the encoder, and keep it in evaluation mode. Multi-GPU training with
            false and a layer below the last needs ESPnet's `unused_parameters: true`.
        full_window: Whisper only: pad to its 30 s window as in its training, else to the longest
            utterance of the batch, which is faster.
        crop_seconds: another random part of longer utterances each time, in training only.
        cache: directory for the hidden states of every utterance (see `FeatureCache`), for a frozen
            encoder and utterances that are the same in each epoch.
        hop_length: samples per frame. ESPnet's diarisation recipes pass it; it is no choice.
    Raises:
        FileNotFoundError: `model` is not there.
        ValueError: `model` is no model of a known family, or another argument does not suit it.
    """

    def __init__(
        self,
        model: str,
        fs: int | str = 16000,
        layer: int | str = "weighted",
        freeze: bool = True,
        full_window: bool = True,
        crop_seconds: float | None = None,
        cache: str | None = None,
        hop_length: int | None = None,
    ):
        super().__init__()
        self.pretrained = PretrainedEncoder(model, freeze, full_window)
        encoder = self.pretrained.encoder
        _check_rates(fs, hop_length, encoder.sampling_rate, encoder.frame_rate)
        self.hop_length = encoder.sampling_rate // encoder.frame_rate
        if crop_seconds is not None and not crop_seconds > 0:
            raise ValueError(f"frontend pruned_ssl: crop_seconds: {crop_seconds}, must be positive")
        self.crop = None if crop_seconds is None else round(crop_seconds * encoder.sampling_rate)
        if cache is not None and (not freeze or crop_seconds is not None):
            other = "crop_seconds" if freeze else "freeze: false"
            raise ValueError(f"frontend pruned_ssl: cache and {other} exclude each other")
        self.cache_dir = cache
        self.cache: FeatureCache | None = None
        self.layer = _check_layer(layer, encoder.num_layers)
        if self.layer is None:
            self.layer_weights = torch.nn.Parameter(torch.zeros(encoder.num_layers + 1))

    def output_size(self) -> int:
        """Width D of the features."""
        return self.pretrained.encoder.hidden_size

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            input: (B, T) or (B, T, 1) waveforms; what lies beyond the lengths is ignored.
            input_lengths: (B,) samples.
        Returns: features (B, T', D) and their lengths (B,), of which T' is the largest.
        Raises:
            ValueError: an utterance is too short for one frame, or longer than Whisper's window.
        """
        if self.training and self.crop is not None:
            input, input_lengths = random_crop(input, input_lengths, self.crop)
        states, lengths = self._states(input, input_lengths)
        if self.layer is not None:
            return states[self.layer], lengths
        weights = torch.softmax(self.layer_weights, dim=0)
        return sum(w * h for w, h in zip(weights, states, strict=True)), lengths

    def _states(self, speech: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """States (B, T', D) of all layers, and frames (B,), from disk if they are there."""
        if self.cache_dir is None:
            return self.pretrained(speech, lengths)
        if self.cache is None:  # not before: weights of a checkpoint are loaded after building
            encoder, full_window = self.pretrained.encoder, self.pretrained.full_window
            self.cache = FeatureCache(self.cache_dir, encoder, full_window)
        if speech.dim() == 3:
            speech = speech.squeeze(2)
        return self.cache.features(speech, lengths)

    def reload_pretrained_parameters(self) -> None:
        """Put the pretrained weights back; ESPnet calls this after its --init."""
        self.pretrained.reload()


def random_crop(speech: Tensor, lengths: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """A random part of so many samples of each longer utterance; shorter ones stay whole.

    Args:
        speech: (B, T) or (B, T, 1) waveforms.
        lengths: (B,) samples.
    Returns: (B, T') waveforms with T' at most `samples`, zero in the padding, and their lengths.
    """
    parts = []
    for wave, length in zip(speech, lengths.tolist(), strict=True):
        places = max(length - samples, 0) + 1
        begin = int(torch.randint(places, ()))
        parts.append(wave[begin : min(begin + samples, length)])
    new = torch.tensor([len(part) for part in parts], device=lengths.device, dtype=lengths.dtype)
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), new


def _check_rates(fs: int | str, hop_length: int | None, sampling_rate: int, frame_rate: int):
    try:
        rate = humanfriendly.parse_size(fs) if isinstance(fs, str) else fs
    except humanfriendly.InvalidSize:
        raise ValueError(f"frontend pruned_ssl: cannot read fs: {fs}, try 16k") from None
    if rate != sampling_rate:
        raise ValueError(
            f"frontend pruned_ssl: fs: {fs}, but pretrained encoders hear {sampling_rate} Hz; "
            "resample the data (recipes do with --fs 16k)"
        )
    hop = sampling_rate // frame_rate
    if hop_length not in (None, hop):
        text = f"hop_length: {hop_length}, but one frame is {hop} samples"
        raise ValueError(f"frontend pruned_ssl: {text}")


def _check_layer(layer: int | str, num_layers: int) -> int | None:
    """The index, None for all."""
    if layer == "weighted":
        return None
    if isinstance(layer, int) and not isinstance(layer, bool) and 0 <= layer <= num_layers:
        return layer
    raise ValueError(
        f"frontend pruned_ssl: layer: {layer}, choose 'weighted' or one of 0 (input of the first "
        f"layer) to {num_layers} (output of the last)"
    )
