"""SUPERB's probe of speaker verification: plugins of ESPnet's task spk.

Linear layer, x-vector TDNN, mean and standard deviation, two linear layers, AM-softmax, with the
sizes of s3prl (downstream/sv_voxceleb1). In an ESPnet YAML file:

    encoder: xvector_probe
    pooling: stats
    projector: xvector_probe
    loss: amsoftmax
    preprocessor: speaker_crops
"""

from __future__ import annotations

import random

import numpy as np
import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.spk.loss.abs_loss import AbsLoss
from espnet2.spk.projector.abs_projector import AbsProjector
from espnet2.train.preprocessor import SpkPreprocessor
from torch import Tensor, nn
from torch.nn import functional

# Frames and dilation of the five TDNN layers (D. Snyder et al., "X-vectors: robust DNN embeddings
# for speaker recognition", 2018).
LAYERS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))


class SpeakerCrops(SpkPreprocessor):
    """ESPnet preprocessor `speaker_crops`: random crops of utterances, for training on speakers.

    ESPnet's `spk` without noise and reverberation, and with a cut that current NumPy takes (in
    release 202511 `spk` turns an array of one number into a scalar, an error in NumPy 2.4).

    Args:
        train: random crops and speakers' names, else evenly spread crops of both utterances of a
            trial and its label.
        target_duration: seconds of a crop; shorter utterances are repeated.
        spk2utt: table whose order numbers the training speakers.
        num_eval: crops of an utterance in validation.
    """

    def __init__(
        self,
        train: bool,
        target_duration: float,
        spk2utt: str | None = None,
        sample_rate: int = 16000,
        num_eval: int = 1,
    ):
        given = {"spk2utt": spk2utt, "sample_rate": sample_rate, "num_eval": num_eval}
        clean = {"rir_apply_prob": 0.0, "noise_info": [], "noise_apply_prob": 0.0}
        super().__init__(train, target_duration, **given, **clean)

    def _speech_process(self, data: dict) -> dict:
        if not self.train:
            return super()._speech_process(data)
        speech, wanted = data["speech"], self.target_duration
        if len(speech) < wanted:
            speech = np.pad(speech, (0, wanted - len(speech)), "wrap")
        begin = random.randint(0, len(speech) - wanted)
        return {**data, "speech": speech[begin : begin + wanted]}


class XvectorProbe(AbsEncoder):
    """ESPnet encoder `xvector_probe`: a linear layer, then the TDNN with ReLU.

    ESPnet's own `xvector` has no linear layer, but batch normalisation, and its pooling divides by
    the number of frames before the TDNN, which takes some away. Here the first and last frame are
    repeated, so that there are as many frames behind the TDNN as before. All layers but the last
    have the width `hidden_size`.
    """

    def __init__(self, input_size: int, hidden_size: int = 512, output_size: int = 1500):
        super().__init__()
        self.project = nn.Linear(input_size, hidden_size)
        widths = [hidden_size] * len(LAYERS) + [output_size]
        self.layers = nn.ModuleList(
            nn.Conv1d(before, after, frames, dilation=dilation)
            for (frames, dilation), before, after in zip(LAYERS, widths, widths[1:], strict=False)
        )
        self.context = sum((frames - 1) * dilation for frames, dilation in LAYERS) // 2
        self.size = output_size

    def output_size(self) -> int:
        return self.size

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, T, D) to (B, D', T), as ESPnet's poolings read it."""
        x = self.project(x).transpose(1, 2)
        x = functional.pad(x, (self.context, self.context), mode="replicate")
        for layer in self.layers:
            x = layer(x).relu()
        return x


class XvectorProbeProjector(AbsProjector):
    """ESPnet projector `xvector_probe`: W2 ReLU(W1 x) with a ReLU behind it, in training.

    In evaluation the embedding is ReLU(W1 x), the layer before, as in s3prl.
    """

    def __init__(self, input_size: int, output_size: int = 512):
        super().__init__()
        self.first = nn.Linear(input_size, output_size)
        self.second = nn.Linear(output_size, output_size)
        self.size = output_size

    def output_size(self) -> int:
        return self.size

    def forward(self, x: Tensor) -> Tensor:
        """Statistics (B, D) to embeddings (B, D')."""
        x = self.first(x).relu()
        return self.second(x).relu() if self.training else x


class AMSoftmax(AbsLoss):
    """ESPnet loss `amsoftmax`: additive margin softmax.

    Cross entropy over s (cos theta_j - m [j is the speaker]), theta_j the angle between the
    embedding and the weights of speaker j (F. Wang et al., "Additive margin softmax for face
    verification", 2018); s is the scale, m the margin.

    Args:
        nout: width of the embeddings.
        nclasses: number of training speakers.
    """

    def __init__(self, nout: int, nclasses: int, scale: float = 30.0, margin: float = 0.4):
        super().__init__(nout)
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(torch.empty(nclasses, nout))
        nn.init.xavier_normal_(self.weight)

    def forward(
        self, input: Tensor, label: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """
        Args:
            input: (B, D) embeddings.
            label: speakers, B of them in any shape.
        Returns: loss and accuracy (None without labels), and the nearest speakers (B,).
        """
        cosine = functional.linear(functional.normalize(input), functional.normalize(self.weight))
        nearest = cosine.argmax(dim=1)
        if label is None:
            return None, None, nearest
        label = label.reshape(-1)
        margins = self.margin * functional.one_hot(label, cosine.shape[1])
        loss = functional.cross_entropy(self.scale * (cosine - margins), label)
        return loss, (nearest == label).float().mean(), nearest
