"""From embeddings of text and audio to a left-padded batch, with some audio tokens left out.

Pruning happens here, before the language model: what it gets are the embeddings that stay, their
mask and their position ids, so that its cache and its masks fit together at every decoding step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

POSITIONS = ("contiguous", "original")


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts as a language model takes it; padding is on the left.

    Args:
        inputs_embeds: (B, P, D).
        attention_mask: (B, P) 1 for what is real.
        position_ids: (B, P); 0 in the padding.
        kept: B index tensors: which audio tokens of each item stayed, in time order.
    """

    inputs_embeds: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    kept: list[Tensor]

    @property
    def inputs(self) -> dict[str, Tensor]:
        """Keyword arguments of `forward` and `generate` of a `transformers` causal LM."""
        names = "inputs_embeds", "attention_mask", "position_ids"
        return {name: getattr(self, name) for name in names}

    def shared(self, other: Prompts) -> int:
        """How many leading columns all rows share with `other`; 0 for other numbers of rows."""
        if len(self.kept) != len(other.kept):
            return 0
        size = min(self.position_ids.shape[1], other.position_ids.shape[1])
        same = (self.inputs_embeds[:, :size] == other.inputs_embeds[:, :size]).all(2)
        for name in ("attention_mask", "position_ids"):
            same &= getattr(self, name)[:, :size] == getattr(other, name)[:, :size]
        return int(same.all(0).long().cumprod(0).sum())


def staying(is_audio: Tensor, kept: Tensor) -> Tensor:
    """Indices into a prompt that stay: where `is_audio` (P,) is False, and its `kept` audio tokens,
    which are numbered in time order."""
    stays = ~is_audio
    stays[is_audio.nonzero().squeeze(1)[kept]] = True
    return stays.nonzero().squeeze(1)


def left_pad(
    rows: Sequence[Tensor], places: Sequence[Tensor], positions: str, kept: list[Tensor]
) -> Prompts:
    """A batch of B pruned prompts: of `rows` (P_b, D), what stays, and `places` (P_b,), `staying`.

    Positions `contiguous` number what stays from 0 on; `original` leaves every token the position
    that it has in the whole prompt, which keeps distances in time, and the text after the audio as
    far away as it was. New tokens follow the last position in both.
    """
    if positions == "contiguous":
        places = [torch.arange(len(p), device=p.device) for p in places]
    return Prompts(pad(rows), pad([torch.ones_like(p) for p in places]), pad(places), kept)


#: parts of `seen_by`
SHARED, PADDING = -1, -2


def seen_by(part: Tensor, last: int | None = None) -> Tensor:
    """Which tokens the `last` ones (or all) of a causal model see, where several texts continue one
    beginning: (B, last, S) bool.

    `part` (B, S) is the number of the text that a token belongs to; `SHARED` for the beginning,
    which all see, `PADDING` for what only padding sees.
    """
    size = part.shape[1]
    last = size if last is None else last
    own = part[:, size - last :, None]
    return ((part[:, None] == own) | (part[:, None] == SHARED)).tril(size - last)


def pad(rows: Sequence[Tensor], value: int = 0) -> Tensor:
    """(B, P, ...) of B tensors (P_b, ...), filled up on the left."""
    return pad_sequence(list(rows), batch_first=True, padding_value=value, padding_side="left")
