"""Log-mel filterbanks of other toolkits, normalised by utterance, as functions of a batch."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.audio_utils import window_function

FRAME, HOP, FFT, PREEMPHASIS = 400, 160, 512, 0.97
FLOOR, SCALE = 2.0**-23, 2.0**15


def kaldi_spectrum() -> Tensor:
    """(FRAME, 2 bins) real and imaginary parts of the spectrum of a frame, all of it one linear
    map: mean removed, pre-emphasis, Povey's window, discrete Fourier transform."""
    without_mean = np.eye(FRAME) - 1.0 / FRAME
    emphasis = np.eye(FRAME) - PREEMPHASIS * np.eye(FRAME, k=-1)
    emphasis[0, 0] -= PREEMPHASIS
    window = window_function(FRAME, "povey", periodic=False)
    spectrum = np.fft.rfft(window[:, None] * (emphasis @ without_mean), FFT, axis=0)
    return torch.as_tensor(np.concatenate([spectrum.real, spectrum.imag]).T, device="cpu")


def kaldi(speech: Tensor, frames: Tensor, spectrum: Tensor, filters: Tensor) -> Tensor:
    """Kaldi's log-mel energies, each bin of each utterance of zero mean and unit variance.

    In float64: quiet bins are differences of large numbers. (`transformers` takes the means in
    float32, which is off by 2e-5.)

    Args:
        speech: (B, T) 16 kHz.
        frames: (B,) of each utterance; what comes after does not count.
        spectrum: of `kaldi_spectrum`.
        filters: (FFT / 2 + 1, bins).
    Returns: (B, (T - FRAME) // HOP + 1, bins) float32, zero beyond `frames`.
    """
    count = (speech.shape[1] - FRAME) // HOP + 1
    device = speech.device
    start = torch.arange(count, device=device)[:, None] * HOP
    cut = speech.double()[:, start + torch.arange(FRAME, device=device)] * SCALE
    real, imaginary = (cut @ spectrum.to(device)).chunk(2, -1)
    energies = (real.square() + imaginary.square()) @ filters.to(device)
    x = energies.clamp(min=FLOOR).log().float().double()  # rounded as in `transformers`
    inside = (torch.arange(count, device=device) < frames[:, None])[..., None].double()
    number = frames[:, None, None].double()
    mean = (x * inside).sum(1, keepdim=True) / number
    variance = ((x - mean).square() * inside).sum(1, keepdim=True) / (number - 1.0)
    return ((x - mean) / (variance + 1e-7).sqrt() * inside).float()


def nemo(speech: Tensor, lengths: Tensor, filters: Tensor) -> Tensor:
    """NeMo's log-mel spectrogram, each bin of each utterance of zero mean and unit deviation.

    Args:
        speech: (B, T) 16 kHz; what lies beyond `lengths` (B,) is taken for silence.
        filters: (bins, FFT / 2 + 1).
    Returns: (B, T // HOP, bins) float32, zero beyond an utterance's end.
    """
    inside = torch.arange(speech.shape[1], device=speech.device) < lengths[:, None]
    speech = speech.float()
    speech = torch.cat([speech[:, :1], speech[:, 1:] - PREEMPHASIS * speech[:, :-1]], 1) * inside
    count, frames = speech.shape[1] // HOP, (lengths // HOP)[:, None, None]
    window = torch.hann_window(FRAME, periodic=False, device=speech.device)
    window = F.pad(window, ((FFT - FRAME) // 2,) * 2)
    speech = F.pad(speech, (FFT // 2,) * 2)
    spectrum = torch.stft(speech, FFT, HOP, window=window, center=False, return_complex=True)
    x = (filters @ spectrum.abs().square()[..., :count] + 2.0**-24).log().transpose(1, 2)
    valid = torch.arange(count, device=speech.device)[:, None] < frames
    mean = (x * valid).sum(1, keepdim=True) / frames
    variance = ((x - mean).square() * valid).sum(1, keepdim=True) / (frames - 1)
    return (x - mean) / (variance.sqrt() + 1e-5) * valid
