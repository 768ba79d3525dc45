"""ESPnet decoder `slots` of the task cls: an utterance has a value for each of several slots."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from espnet2.cls.decoder.linear_decoder import LinearDecoder
from torch import Tensor


class SlotDecoder(LinearDecoder):
    """Mean over time, then a linear layer for each slot (SUPERB's intent classification).

    ESPnet's task cls knows one class an utterance. A class here is a combination of values, one
    for each slot, and its logit the sum of theirs:

        z(a, o, l) = z_1(a) + z_2(o) + z_3(l)

    Over all combinations the softmax is the product of the slots' softmaxes, so that ESPnet's
    cross entropy is the sum of the slots' cross entropies, which s3prl's fluent_commands trains,
    its best class is the best value of each slot, and its accuracy that of all slots right.

        decoder: slots
        decoder_conf: {slot_sizes: [6, 14, 4]}

    Args:
        vocab_size: number of classes: the product of the slots' sizes. The last slot changes
            fastest in their order.
        slot_sizes: number of values of each slot.
        pooling, dropout: as ESPnet's `linear` has them; dropout is in front of the pooling.
    Raises:
        ValueError: the classes are not the combinations of so many values.
    """

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        slot_sizes: Sequence[int],
        pooling: str = "mean",
        dropout: float = 0.0,
    ):
        self.slot_sizes = tuple(slot_sizes)
        if not self.slot_sizes or math.prod(self.slot_sizes) != vocab_size:
            raise ValueError(
                f"decoder slots: slot_sizes: {list(self.slot_sizes)} does not multiply to the "
                f"{vocab_size} classes of the token list"
            )
        super().__init__(sum(self.slot_sizes), encoder_output_size, pooling, dropout)
        self.output_dim = vocab_size

    def forward(self, hs_pad: Tensor, hlens: Tensor) -> Tensor:
        """Logits (B, classes) of hidden states (B, T, D) with lengths (B,)."""
        first, *others = super().forward(hs_pad, hlens).split(self.slot_sizes, dim=-1)
        logits = first
        for values in others:
            logits = torch.flatten(logits[:, :, None] + values[:, None, :], start_dim=1)
        return logits
