"""ESPnet encoder and pooling `token_pruning`: frames dropped behind any encoder, without a query.

For utterance-level tasks: what follows reads fewer frames. In an ESPnet YAML file of the tasks cls
and slu:

    encoder: token_pruning
    encoder_conf:
        encoder: conformer        # any that the task has
        encoder_conf: {output_size: 256}
        rate: 0.5
        score: neighbours

Speaker tasks give their encoders no lengths, and their poolings divide by the number of frames
before the encoder, so there the pooling is what drops frames and counts them:

    pooling: token_pruning
    pooling_conf:
        pooling: chn_attn_stat
        rate: 0.5
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.spk.pooling.abs_pooling import AbsPooling
from torch import Tensor

from espnet_prune.tokens.query_free import check_query_free, staying_frames, take_frames


class TokenPruningEncoder(AbsEncoder):
    """An encoder of the task, and of its frames those that say most.

    Frames are chosen from the encoder's output alone, and gradients go through those that stay:

        neighbours    1 - cos(h_t, h_{t-1}): what repeats the frame before it goes
        mean          cos(h_t, mean of h): what is unlike the utterance goes

    (`espnet_prune.tokens.query_free`). Norms of frames are not among the scores, for most encoders
    end in a LayerNorm that makes them nearly equal. A CTC on these frames would be short of them:
    give `ctc_weight: 0` in slu.

    Args:
        encoder, encoder_conf: name of the encoder in the task's own table, and its arguments.
        rate: share of the frames of each utterance that go, in [0, 1); one at least stays.
        score: `neighbours` or `mean`.
    Raises:
        ValueError: an encoder that the task does not have, a rate or score out of range, or an
            encoder that conditions on CTC.
    """

    #: ESPnet's tables that this class is in, by name; the registry fills it
    tables: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        input_size: int,
        encoder: str,
        encoder_conf: Mapping | None = None,
        rate: float = 0.5,
        score: str = "neighbours",
    ):
        super().__init__()
        self.encoder = _wrap(self, "encoder", encoder, encoder_conf, input_size, rate, score)
        if getattr(self.encoder, "interctc_use_conditioning", False):
            raise ValueError(
                f"encoder token_pruning: '{encoder}' conditions on CTC, which needs all frames: "
                "set interctc_use_conditioning to false"
            )
        self._output_size = self.encoder.output_size()  # slu with a postdecoder reads this name

    def output_size(self) -> int:
        """Width D of the wrapped encoder."""
        return self._output_size

    def forward(
        self, xs_pad: Tensor, ilens: Tensor, prev_states: Any = None, **options
    ) -> tuple[Tensor | tuple[Tensor, list], Tensor, Any]:
        """
        Args:
            xs_pad, ilens: what the wrapped encoder takes, (B, L, ...) and (B,).
            prev_states, options: given to the wrapped encoder where they are given here.
        Returns: (B, K, D) frames that stay, zeros in the padding, or these and what the encoder
            gives of its layers (as for intermediate CTC), at the same frames; lengths (B,), of
            which K is the largest; the wrapped encoder's states.
        Raises:
            ValueError: an utterance without frames, or layers with another number of frames.
        """
        if prev_states is not None:
            options["prev_states"] = prev_states
        out, lengths, states = self.encoder(xs_pad, ilens, **options)
        last, layers = out if isinstance(out, tuple) else (out, None)
        indices, kept = staying_frames(last, lengths.to(last.device), self.rate, self.score)
        pruned = take_frames(last, indices, kept)
        if layers is not None:
            pruned = pruned, [_take_same(each, last.shape[1], indices, kept) for each in layers]
        return pruned, kept.to(lengths), states

    def reload_pretrained_parameters(self) -> None:
        """Have the wrapped encoder put its pretrained weights back after ESPnet's --init."""
        if hasattr(self.encoder, "reload_pretrained_parameters"):
            self.encoder.reload_pretrained_parameters()


class TokenPruningPooling(AbsPooling):
    """A pooling of the task over those frames of the encoder that say most.

    ESPnet's `feat_lengths` are of the frames before the encoder. Where that gives fewer than the
    longest of them, lengths shrink by the same factor: right within a frame for strides, and within
    the encoder's context where it cuts off margins (how it counts, nothing tells the pooling).
    Stock poolings take all of that padding for real.

    Args:
        pooling, pooling_conf: name of the pooling in the task's own table, and its arguments.
        rate, score: as in `TokenPruningEncoder`.
    Raises:
        ValueError: a pooling that the task does not have, a rate or score out of range.
    """

    #: as in `TokenPruningEncoder`
    tables: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        input_size: int,
        pooling: str,
        pooling_conf: Mapping | None = None,
        rate: float = 0.5,
        score: str = "neighbours",
    ):
        super().__init__()
        self.pooling = _wrap(self, "pooling", pooling, pooling_conf, input_size, rate, score)

    def output_size(self) -> int:
        """That of the wrapped pooling."""
        return self.pooling.output_size()

    def forward(self, x: Tensor, feat_lengths: Tensor | None = None) -> Tensor:
        """
        Args:
            x: (B, D, T) the encoder's frames.
            feat_lengths: (B,) real frames before the encoder, the longest without padding; all of
                T when absent.
        Returns: (B, output size) of the utterances.
        Raises:
            ValueError: an utterance without frames.
        """
        frames, size = x.transpose(1, 2), x.shape[2]
        if feat_lengths is None:
            lengths = torch.full((len(x),), size, device=x.device)
        else:
            lengths = feat_lengths.to(x.device)
            longest = lengths.max().clamp_min(size)
            shorter = (2 * lengths * size + longest) // (2 * longest)  # rounded
            lengths = torch.maximum(shorter, lengths.clamp(max=1))
        indices, kept = staying_frames(frames, lengths, self.rate, self.score)
        pruned = take_frames(frames, indices, kept).transpose(1, 2)
        return self.pooling(pruned, feat_lengths=None if feat_lengths is None else kept)


def _wrap(
    own, kind: str, name: str, conf: Mapping | None, input_size: int, rate: float, score: str
) -> torch.nn.Module:
    """A module of the class that a task's table has under a name; `own` gets rate and score."""
    check_query_free(rate, score)
    own.rate, own.score = rate, score
    entries = (entry for choices in own.tables.values() for entry in choices.classes.items())
    known = {other: found for other, found in entries if found is not type(own)}
    if not isinstance(name, str) or name.lower() not in known:
        raise ValueError(
            f"{kind} token_pruning: unknown {kind} '{name}', choose from {', '.join(sorted(known))}"
        )
    return known[name.lower()](input_size=input_size, **(conf or {}))


def _take_same(layer, frames: int, indices: Tensor, lengths: Tensor):
    """The frames that stay of a layer's output (B, T, D), or of a pair of number and output."""
    if isinstance(layer, tuple):
        return layer[0], _take_same(layer[1], frames, indices, lengths)
    if layer.shape[1] != frames:
        raise ValueError(
            f"encoder token_pruning: a layer has {layer.shape[1]} frames, the last one {frames}"
        )
    return take_frames(layer, indices, lengths)
