"""SUPERB's probe of speaker diarisation: plugins of ESPnet's task diar.

An LSTM of 512 units and a linear layer (s3prl, downstream/diarization/model.py), which ESPnet
trains with its permutation-free loss. In an ESPnet YAML file:

    encoder: lstm_probe
    decoder: linear
    label_aggregator: frame_labels
    attractor: null
"""

from __future__ import annotations

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from torch import Tensor, nn

from espnet_prune.plugin.probes.frames import through_lstm


class LSTMProbe(AbsEncoder):
    """ESPnet encoder `lstm_probe`: LSTM layers in one direction, and nothing else.

    ESPnet's own `rnn` puts a linear layer with tanh behind them.
    """

    def __init__(self, input_size: int, hidden_size: int = 512, num_layers: int = 1):
        super().__init__()
        self.recurrent = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)

    def output_size(self) -> int:
        """Width of the output."""
        return self.recurrent.hidden_size

    def forward(
        self, xs_pad: Tensor, ilens: Tensor, prev_states: Tensor | None = None
    ) -> tuple[Tensor, Tensor, None]:
        """Features (B, T, D) and their frames (B,) to (B, T', D') with T' the largest of them."""
        return through_lstm(self.recurrent, xs_pad, ilens), ilens, None


class FrameLabels(nn.Module):
    """ESPnet label aggregator `frame_labels`: who talks in a frame, from a number with bits.

    The corpus `librimix` writes one number for a frame of the encoder, to be read as data type
    text_int. ESPnet's own aggregator makes labels of frames from labels of
    samples, which come from its data type rttm, and centres frame i on its begin, half a frame
    earlier than it is scored.

    There have to be at least as many numbers as the encoder gives frames, and at most two more,
    which ESPnet's model cuts off.

    Args:
        num_spk: speakers of a recording.
    """

    def __init__(self, num_spk: int = 2):
        super().__init__()
        self.num_spk = num_spk

    def forward(self, input: Tensor, ilens: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            input: (B, frames) integers, in which speaker k talking counts 2^k.
            ilens: (B,) frames.
        Returns: labels (B, frames, speakers), 1 where a speaker talks, and zero beyond the
            lengths; and the lengths.
        """
        if ilens is not None:
            place = torch.arange(input.shape[1], device=input.device)
            input = input.masked_fill(place >= ilens[:, None].to(input.device), 0)
        bits = torch.arange(self.num_spk, device=input.device)
        return ((input[:, :, None] >> bits) & 1).float(), ilens
