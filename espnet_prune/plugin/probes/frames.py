"""SUPERB's probes on every frame: `frame_probe` for PR, ASR and SF, and that of diarisation.

The latter is an LSTM of 512 units and a linear layer (s3prl, downstream/diarization/model.py),
which ESPnet trains with its permutation-free loss. In an ESPnet YAML file:

    encoder: lstm_probe
    decoder: linear
    label_aggregator: frame_labels
    attractor: null
"""

from __future__ import annotations

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def through_lstm(lstm: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """The output (B, T', D') for (B, T, D) with T' the largest of the lengths (B,)."""
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], batch_first=True)[0]


class FrameProbe(AbsEncoder):
    """A linear layer, then LSTMs in both directions; the output layer after it is ESPnet's CTC.

        h = W x + b,    h = dropout(BLSTM(h)) for each of the layers

    There is nothing else between, as in s3prl (downstream/ctc/expert.py, downstream/asr/model.py).
    ESPnet's own `rnn` puts a linear layer with tanh behind the LSTMs, and its linear layer in front
    of the encoder, `preencoder: linear`, has to be told the width of the features.

        encoder: frame_probe
        encoder_conf: {project_size: 256}                    # PR
        encoder_conf: {project_size: 1024, num_layers: 2}    # ASR, SF

    Args:
        project_size: width of the linear layer.
        num_layers: number of BLSTM layers; 0 for none.
        hidden_size: units of a BLSTM layer in each direction.
        dropout: behind each BLSTM layer.
    Raises:
        ValueError: a size, a number of layers or a dropout that cannot be.
    """

    def __init__(
        self,
        input_size: int,
        project_size: int = 256,
        num_layers: int = 0,
        hidden_size: int = 1024,
        dropout: float = 0.2,
    ):
        super().__init__()
        for name, value, good in (
            ("project_size", project_size, project_size > 0),
            ("num_layers", num_layers, num_layers >= 0),
            ("hidden_size", hidden_size, hidden_size > 0),
            ("dropout", dropout, 0 <= dropout < 1),
        ):
            if not good:
                raise ValueError(f"encoder frame_probe: {name}: {value} is out of its range")
        self.project = nn.Linear(input_size, project_size)
        self.recurrent = None
        self.size = project_size
        if num_layers:
            self.recurrent = nn.LSTM(
                project_size,
                hidden_size,
                num_layers,
                batch_first=True,
                bidirectional=True,
                dropout=dropout if num_layers > 1 else 0.0,  # between layers only
            )
            self.dropout = nn.Dropout(dropout)
            self.size = 2 * hidden_size

    def output_size(self) -> int:
        return self.size

    def forward(
        self, xs_pad: Tensor, ilens: Tensor, prev_states: Tensor | None = None
    ) -> tuple[Tensor, Tensor, None]:
        """Features (B, T, D) and their frames (B,) to (B, T', D') with T' the largest of them."""
        hidden = self.project(xs_pad[:, : int(ilens.max())])
        if self.recurrent is not None:
            hidden = self.dropout(through_lstm(self.recurrent, hidden, ilens))
        return hidden, ilens, None


class LSTMProbe(AbsEncoder):
    """ESPnet encoder `lstm_probe`: LSTM layers in one direction, and nothing else.

    ESPnet's own `rnn` puts a linear layer with tanh behind them.
    """

    def __init__(self, input_size: int, hidden_size: int = 512, num_layers: int = 1):
        super().__init__()
        self.recurrent = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)

    def output_size(self) -> int:
        return self.recurrent.hidden_size

    def forward(
        self, xs_pad: Tensor, ilens: Tensor, prev_states: Tensor | None = None
    ) -> tuple[Tensor, Tensor, None]:
        """Features (B, T, D) and their frames (B,) to (B, T', D') with T' the largest of them."""
        return through_lstm(self.recurrent, xs_pad, ilens), ilens, None


class FrameLabels(nn.Module):
    """ESPnet label aggregator `frame_labels`: who talks in a frame, from a number with bits.

    The corpus `librimix` writes one number for a frame of the encoder, to be read as data type
    text_int. ESPnet's own aggregator makes labels of frames from labels of samples, which come from
    its data type rttm, and centres frame i on its begin, half a frame earlier than it is scored.

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
