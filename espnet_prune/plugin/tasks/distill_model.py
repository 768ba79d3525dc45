"""`DistillModel` as ESPnet's trainer wants its models."""

from __future__ import annotations

from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from torch import Tensor

from espnet_prune.structured.distill import DistillModel


class ESPnetDistillModel(DistillModel, AbsESPnetModel):
    """`DistillModel` whose loss, statistics and weight can be gathered over processes."""

    def forward(self, speech: Tensor, speech_lengths: Tensor, **kwargs):
        """As `DistillModel.forward`, but all of one dimension and on one device."""
        loss, stats, weight = super().forward(speech, speech_lengths, **kwargs)
        return force_gatherable((loss, stats, weight), loss.device)

    def collect_feats(self, **batch) -> dict[str, Tensor]:
        """There are no features to collect statistics of."""
        return {}
