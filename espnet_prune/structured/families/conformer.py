"""What the Conformers of `transformers` share: attention to relative positions, convolutions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_prune.structured.families.declaration import Axis, Declaration, Scale
from espnet_prune.structured.families.layers import Nothing, PrunableAttention


class Sinusoids(nn.Module):
    """Embeddings (1, 2 T - 1, D) of the relative positions T - 1 to 1 - T, without a buffer, which
    a model that is built without memory would lose.

    Entries 2 i and 2 i + 1 are sin(p w) and cos(p w) with w = 10000^(-2 i / D).
    """

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """For hidden states (B, T, D)."""
        time = torch.arange(x.shape[1] - 1, -x.shape[1], -1, device=x.device).float()
        even = torch.arange(0, self.width, 2, device=x.device).float()
        angles = time[:, None] * (10000.0 ** (-even / self.width))
        return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[None].to(x.dtype)


class Rotation(nn.Module):
    """Cosines and sines (2, T, d) for `ConformerAttention`, of rotary positions."""

    def __init__(self, size: int, base: float):
        super().__init__()
        self.size, self.base = size, base

    def forward(self, x: Tensor) -> Tensor:
        """For hidden states (B, T, D)."""
        even = torch.arange(0, self.size, 2, device=x.device).float()
        time = torch.arange(x.shape[1], device=x.device).float()
        angles = (time[:, None] * self.base ** (-even / self.size)).repeat(1, 2)
        return torch.stack([angles.cos(), angles.sin()]).to(x.dtype)


class FrozenBatchNorm(nn.BatchNorm1d):
    """With the statistics of the checkpoint in training, too: what is distilled is its function,
    and those of padded or gated batches are others."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x, *statistics, self.weight, self.bias, False, 0.0, self.eps)


class ConformerAttention(PrunableAttention):
    """Self-attention with relative positions whose heads may have different numbers of dimensions.

    With the embeddings R of relative positions and biases u and v, head h has the scores

        s ((Q_h + u_h) K_h^T + shift((Q_h + v_h) (R W_h)^T))

    (Transformer-XL, arXiv 1901.02860, section 3.3), or with one embedding for each clipped distance
    and without biases (Shaw et al., arXiv 1803.02155); with rotary positions, queries and keys are
    those of the rotated input. Heads are filled up with zeros to the size of the largest and
    computed together.

    Args:
        dense: the module of `transformers` to take the parameters from.
        heads, head_dim: of it.
        projections: names of its projections to query, key, value, and of the output's.
        position: of the linear layer for positions (`Sinusoids` in), where it has one.
        biases: of u and v, which lose their shape (heads, head_dim) here for (heads head_dim,).
        distances: the most frames to the left and to the right that are told apart, for clipped
            distances, whose embeddings each head gets for itself.
    """

    def __init__(
        self,
        dense: Any,
        heads: int,
        head_dim: int,
        projections: tuple[str, ...],
        position: str | None = None,
        biases: tuple[str, ...] = (),
        distances: tuple[int, int] | None = None,
    ):
        nn.Module.__init__(self)
        self.projections, self.distances = projections, distances
        self.positions = () if position is None else (position,)
        self.query_biases = biases
        self.removable = (*projections, *self.positions, *biases)
        for name in (*projections, *(() if distances else self.positions)):
            setattr(self, name, getattr(dense, name))
        if distances and position:
            setattr(self, position, nn.Linear(sum(distances) + 1, heads * head_dim, bias=False))
        for name in biases:
            setattr(self, name, nn.Parameter(getattr(dense, name).detach().flatten()))
        dropout = getattr(dense, "attention_dropout", None)
        self._whole(heads, head_dim, float(dense.dropout.p if dropout is None else dropout))

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        relative_position_embeddings: Tensor | None = None,
        position_embeddings: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """As the layers call it: (output, attention weights)."""
        x, mask = hidden_states, attention_mask
        project_query, project_key, project_value, out = map(self._child, self.projections)
        if not self.present or not self.heads:
            zero = x.new_zeros(1, 1, 1)
            return (zero if not self.present or out.bias is None else zero + out.bias), None
        embedded = position_embeddings
        if embedded is None:
            embedded = relative_position_embeddings
        rotated = x
        if not self.positions and embedded is not None:
            rotated = self._rotate(x, *embedded)
        query, key = project_query(rotated), project_key(rotated)
        k, v = self._split(key, self.qk_sizes), self._split(project_value(x), self.vo_sizes)
        if self.positions:
            if self.distances:
                embedded = torch.eye(sum(self.distances) + 1, dtype=x.dtype, device=x.device)[None]
            u, w = map(self._child, self.query_biases) if self.query_biases else (0.0, 0.0)
            p = self._split(self._child(self.positions[0])(embedded), self.qk_sizes)
            scores = self._split(query + w, self.qk_sizes) @ p.transpose(2, 3) * self.scaling
            scores, query = self._shift(scores), query + u
            if mask is None:
                mask = scores
            elif mask.dtype == torch.bool:  # not -inf: of padding, whole rows are masked
                mask = scores.masked_fill(~mask, torch.finfo(x.dtype).min)
            else:
                mask = scores + mask
        return out(self._together(self._split(query, self.qk_sizes), k, v, mask)), None

    def _child(self, name: str) -> Any:
        return getattr(self, name)

    def _shift(self, scores: Tensor) -> Tensor:
        """Scores (B, heads, T, positions) of each query -> (B, heads, T, T) of each key."""
        batch, heads, time, positions = scores.shape
        if self.distances is None:  # row i begins at the position T - 1 - i
            padded = F.pad(scores, (1, 0)).view(batch, heads, positions + 1, time)
            return padded[:, :, 1:].reshape(batch, heads, time, positions)[..., :time]
        left, right = self.distances
        frame = torch.arange(time, device=scores.device)
        index = (frame - frame[:, None]).clamp(-left, right) + left
        return scores.gather(-1, index.expand(batch, heads, time, time))

    def _rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        heads = x.unflatten(-1, (self.base_heads, -1))
        first, second = heads.chunk(2, -1)
        turned = torch.cat([-second, first], -1)
        return (heads * cos[:, None] + turned * sin[:, None]).flatten(2)


def declare_convolution(
    d: Declaration,
    prefix: str,
    channels: int,
    rate: float,
    norm: str,
    has_bias: bool = False,
    pre_norm: str | None = None,
) -> str:
    """Declare a convolution module: pointwise to twice the channels, gated linear unit, depthwise,
    norm, activation, pointwise.

    Args:
        norm: name of the norm in it, a batch norm or a `ChannelNorm` ("…layer_norm").
        pre_norm: the LayerNorm in front, which goes when the whole module goes.
    Returns: the site of the whole.
    """
    first, second = f"{prefix}.pointwise_conv1", f"{prefix}.pointwise_conv2"
    whole = d.site(prefix, "conv", 1, scales=(Scale(f"{second}.bias", 0),))
    norm = f"{prefix}.{norm}"
    over_channels = norm.endswith("layer_norm")
    scales = [Scale(f"{second}.weight", 1, inherit=True)]
    scales += [Scale(norm, None)] if over_channels else []
    options: dict[str, Any] = {"parents": (whole,), "scales": tuple(scales), "vital": True}
    dim = d.site(prefix, "conv_dim", channels, **options)
    d.linear(first, rate, rows=(dim, dim), has_bias=has_bias)
    d.linear(f"{prefix}.depthwise_conv", rate, rows=dim, has_bias=has_bias)
    (d.norm if over_channels else d.batch_norm)(norm, dim)
    d.linear(second, rate, columns=dim, bias=whole, has_bias=has_bias)
    d.removal(prefix, whole, Nothing, pre_norm)
    d.block("convolution", (prefix, prefix), Axis(dim))
    return whole
