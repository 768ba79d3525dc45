"""Frames of the frozen encoder for the adapter: averages of pairs, 25 a second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from espnet_prune.data.audio import SAMPLING_RATE
from espnet_prune.speech_llm.base import CHUNK_SAMPLES
from espnet_prune.structured import SpeechEncoder
from espnet_prune.tokens.pruner import FRAME_TOKENS

#: samples of an audio token: two frames of the encoder
TOKEN_SAMPLES = SAMPLING_RATE // FRAME_TOKENS


def longest_chunk(encoder: SpeechEncoder) -> int:
    """Samples that the encoder takes at once."""
    return encoder.family_of.maximum_samples(encoder.config.base) or CHUNK_SAMPLES


def share_inputs(lengths: Sequence[int], most: int) -> list[list[tuple[int, int]]]:
    """Short waveforms put together, so that the encoder gets few inputs and all are full.

    Args:
        lengths: of the waveforms, in samples; none is longer than `most`.
        most: samples of an input.
    Returns: for each input (waveform, first sample): in order, each at the beginning of an audio
        token, with a blank of a token and more after it.
    """
    inputs: list[list[tuple[int, int]]] = []
    end = most
    for number, length in enumerate(lengths):
        if not inputs or end + length > most:
            inputs.append([])
            end = 0
        inputs[-1].append((number, end))
        end = (-(-(end + length) // TOKEN_SAMPLES) + 1) * TOKEN_SAMPLES
    return inputs


def encode_together(encoder: SpeechEncoder, waves: Sequence[np.ndarray]) -> list[Tensor]:
    """What `encode_pairs` gives for waveforms that share inputs, see `share_inputs`.

    A model that is given recordings in chunks of 30 s hears frames with speech around them, not
    frames of a short waveform with silence behind it.

    Returns: a tensor (N_i, D) each, N_i = ceil(T_i / 640) at most.
    """
    inputs = share_inputs([len(wave) for wave in waves], longest_chunk(encoder))
    full = []
    for shared in inputs:
        last, start = shared[-1]
        full.append(np.zeros(start + len(waves[last]), np.float32))
        for number, start in shared:
            full[-1][start : start + len(waves[number])] = waves[number]
    found = {}
    for shared, frames in zip(inputs, encode_pairs(encoder, full), strict=True):
        for number, start in shared:
            first = start // TOKEN_SAMPLES
            found[number] = frames[first : first + -(-len(waves[number]) // TOKEN_SAMPLES)]
    return [found[number] for number in range(len(waves))]


@torch.no_grad()
def encode_pairs(encoder: SpeechEncoder, waves: Sequence[np.ndarray]) -> list[Tensor]:
    """Last hidden states of the frozen encoder, averaged in pairs: 25 a second.

    Whisper gets its full 30 s window, as it was trained.

    Args:
        waves: float32 waveforms (T_i,) at 16 kHz, at most `longest_chunk`.
    Returns: a tensor (N_i, D) each; N_i is 0 for what is too short for a frame.
    """
    least = encoder.family_of.minimum_samples(encoder.config.base)
    found = [torch.zeros(0, encoder.hidden_size, device=encoder.device) for _ in waves]
    rows = [i for i, wave in enumerate(waves) if len(wave) >= least]
    if not rows:
        return found
    speech = [torch.from_numpy(waves[i]).to(encoder.device) for i in rows]
    lengths = torch.tensor(list(map(len, speech)), device=encoder.device)
    out = encoder(pad_sequence(speech, batch_first=True), lengths, True)
    hidden = out.last_hidden_state
    hidden = nn.functional.pad(hidden, (0, 0, 0, hidden.shape[1] % 2))
    pairs = hidden.unflatten(1, (-1, 2)).mean(2)
    for i, row, frames in zip(rows, pairs, out.lengths.tolist(), strict=True):
        found[i] = row[: (frames + 1) // 2]
    return found
