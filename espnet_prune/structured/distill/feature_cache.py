"""The hidden states of a frozen encoder on disk, for probes that see their data many times."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_prune.structured import SpeechEncoder
from espnet_prune.structured.distill.teacher import Teacher
from espnet_prune.structured.distill.teacher_cache import TeacherCache


class FeatureCache(TeacherCache):
    """Asks an encoder once for every waveform; what it keeps is what a probe sees.

    Of a pre-norm model the last state has been through the final norm, frames of padding are left
    out, and precision is full, so that a probe learns the same with and without the cache. Only
    models with group normalisation (the Base models) hear the padding of a batch, and here there is
    none. An utterance takes `bytes_of` its length.

    Args:
        directory: made when it is not there; several probes and encoders may share it.
        encoder: frozen, its weights must not change afterwards.
        full_window: as in `SpeechEncoder.forward`.
    """

    def __init__(self, directory: str | Path, encoder: SpeechEncoder, full_window: bool):
        super().__init__(directory, Teacher(encoder), full_window)
        self.fingerprint += b"features"

    def features(self, speech: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """As `PretrainedEncoder.forward`, zero in the padding.

        Args:
            speech: (B, T) waveforms at 16 kHz.
            lengths: (B,) samples.
        Returns: states (B, T', D) of all layers; frames (B,), of which T' is the largest.
        """
        layers = range(self.teacher.encoder.num_layers + 1)
        each = [
            self.one(wave[:length], layers)
            for wave, length in zip(speech, lengths.tolist(), strict=True)
        ]
        frames = torch.tensor([len(states[0]) for states in each], device=lengths.device)
        padded = [pad_sequence([states[n] for states in each], batch_first=True) for n in layers]
        return padded, frames

    @torch.no_grad()
    def ask(self, wave: Tensor) -> dict[int, Tensor]:
        """number of a hidden state -> (T', D), of a waveform (T,)."""
        length = torch.tensor([len(wave)], device=wave.device)
        out = self.teacher.encoder(wave[None], length, full_window=self.full_window)
        frames = min(int(out.lengths[0]), out.last_hidden_state.shape[1])
        states = [*out.hidden_states[:-1], out.last_hidden_state]
        return {n: state[0, :frames].contiguous() for n, state in enumerate(states)}


def bytes_of(encoder: SpeechEncoder, samples: int) -> int:
    """Disk space in bytes of what the cache keeps of so many samples: 4 (L + 1) T' D, nearly."""
    frames = samples * encoder.frame_rate // encoder.sampling_rate
    return 4 * (encoder.num_layers + 1) * frames * encoder.hidden_size
