"""Modules that take the place of `transformers`' own where a pruned model needs other shapes.

They keep the parameter names of what they replace, so that dense checkpoints load unchanged.
Everything else (encoder layers, residuals, norms, masks) stays `transformers`' code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: frames in a batch from which on `_conv1d` changes the order of its weights; measured for the
#: positional convolution of WavLM Base+: 250 frames take as long either way
LONG_ENOUGH = 256


class Nothing(nn.Module):
    """A removed sub-layer: a zero that broadcasts over (B, T, D)."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return x.new_zeros(1, 1, 1)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over channels that may be gated.

    With gates z the statistics are weighted by z:

        mean = sum_c z_c x_c / sum_c z_c,   var = sum_c z_c (x_c - mean)^2 / sum_c z_c

    For z in {0, 1} this is the ordinary LayerNorm over the kept channels, so that slimming keeps
    the function exactly and a slimmed model needs no norm of its own. The output of a dropped
    channel is not zero here; the weights that read it are.

    `gate` is set from outside for the length of one forward pass.
    """

    gate: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return super().forward(x)
        # All gates may be zero in one draw; what reads the output is then multiplied by zero, too.
        share = self.gate / self.gate.sum().clamp(min=1e-6)
        centred = x - (x * share).sum(-1, keepdim=True)
        variance = (centred.square() * share).sum(-1, keepdim=True)
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias


class ScaledChannelNorm(ChannelNorm):
    """`ChannelNorm` of g * x, with a gain g for each channel.

    What DPHuBERT leaves of the gates of its last CNN layer: they stand between a GELU and a
    LayerNorm, so that no weight can take them over.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.ones(self.normalized_shape))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.gain)


class PrunableAttention(nn.Module):
    """Multi-head self-attention whose heads may have different numbers of dimensions.

    Head h computes softmax(s Q_h K_h^T + mask) V_h with Q_h, K_h in R^{T x qk_h}, V_h in
    R^{T x vo_h}, and s the scale of the dense head. The projections have exactly
    sum(qk_h) and sum(vo_h) rows. A head without query-key dimensions attends uniformly (or by
    the position bias alone); without heads the output is the output bias; when the whole is
    dropped there are no parameters and the output is zero.

    Args:
        dense: the `transformers` attention module to take the projections from.
    """

    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    out_proj: nn.Linear
    #: names of the projections to query, key and value, and of the output's
    projections: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    #: names of parameters that are added to the query, and of linear layers that give relative
    #: positions, which meet the query as keys do
    query_biases: tuple[str, ...] = ()
    positions: tuple[str, ...] = ()
    #: what goes when the whole sub-layer goes
    removable: tuple[str, ...] = projections

    def __init__(self, dense: Any):
        super().__init__()
        for name in self.removable:
            setattr(self, name, getattr(dense, name))
        self._whole(dense.num_heads, dense.head_dim, float(dense.dropout))

    def _whole(self, heads: int, head_dim: int, dropout: float) -> None:
        """Nothing is pruned yet."""
        self.base_heads, self.base_head_dim, self.scaling = heads, head_dim, head_dim**-0.5
        self.attention_dropout = dropout
        self.heads: tuple[int, ...] = tuple(range(heads))
        self.qk_sizes = self.vo_sizes = (head_dim,) * heads
        self.present = True

    def restructure(
        self, mha: tuple[int, ...], heads: tuple[int, ...], qk: tuple[int, ...], vo: tuple[int, ...]
    ) -> None:
        """Take over what is kept; all numbers are units of the base architecture."""
        self.present, self.heads = bool(mha), heads
        self.qk_sizes, self.vo_sizes = self._per_head(qk), self._per_head(vo)
        if not self.present:
            for name in self.removable:
                setattr(self, name, None)

    def query_side(self) -> list[nn.Parameter]:
        """What has a row, or an entry, for each query dimension."""
        return self._rows(self.projections[0], *self.query_biases)

    def key_side(self) -> list[nn.Parameter]:
        """What has a row for each dimension of what queries meet."""
        return self._rows(self.projections[1], *self.positions)

    def _rows(self, *names: str) -> list[nn.Parameter]:
        found = [getattr(self, name) for name in names]
        parts = [p.parameters() if isinstance(p, nn.Module) else (p,) for p in found]
        return [parameter for part in parts for parameter in part]

    def _per_head(self, units: tuple[int, ...]) -> tuple[int, ...]:
        counts = Counter(unit // self.base_head_dim for unit in units)
        return tuple(counts[head] for head in self.heads)

    @property
    def equal(self) -> bool:
        """All heads have one query-key size, not 0, and one value size."""
        sizes = set(self.qk_sizes)
        return len(sizes) == 1 and 0 not in sizes and len(set(self.vo_sizes)) == 1

    def attend(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D).

        Args:
            mask: None, a boolean mask (True: attend) or an additive one, broadcastable to
                (B, heads, T, T); a head dimension, where there is one, follows `self.heads`.
        """
        if not self.present:
            return x.new_zeros(1, 1, 1)
        if not self.heads:
            # A sum, as torch's counter of operations fails on a view of a parameter
            return x.new_zeros(1, 1, 1) + self.out_proj.bias
        query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        if self.equal:
            context = self._attend_equal(query, key, value, mask)
        else:
            context = self._attend_unequal(query, key, value, mask)
        return self.out_proj(context)

    def _attend_equal(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> Tensor:
        shape = (*query.shape[:2], len(self.heads), -1)
        q, k, v = (part.view(shape).transpose(1, 2) for part in (query, key, value))
        return self._products(q, k, v, mask).transpose(1, 2).flatten(2)

    def _attend_unequal(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> Tensor:
        qk, vo = self.qk_sizes, self.vo_sizes
        heads = zip(query.split(qk, -1), key.split(qk, -1), value.split(vo, -1), strict=True)
        outputs = []
        for number, parts in enumerate(heads):
            head_mask = mask
            if mask is not None and mask.dim() == 4 and mask.shape[1] > 1:
                head_mask = mask[:, number : number + 1]
            q, k, v = (part.unsqueeze(1) for part in parts)
            outputs.append(self._products(q, k, v, head_mask).squeeze(1))
        return torch.cat(outputs, -1)

    def _products(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of heads of one size: (B, H, T, qk), (B, H, T, qk), (B, H, T, vo)."""
        if q.shape[-1] == 0:
            # Scores of zero: one zero column says the same to the kernel.
            q, k = (F.pad(t, (0, 1)) for t in (q, k))
        dropout = self.attention_dropout if self.training else 0.0
        width, kept = max(q.shape[-1], v.shape[-1]), v.shape[-1]
        if q.shape[-1] != kept:
            # The fused kernels want one size for Q, K and V: the shorter is filled up with zeros.
            q, k, v = (F.pad(t, (0, width - t.shape[-1])) for t in (q, k, v))
        if mask is not None and mask.is_floating_point():
            mask = mask.to(q.dtype)  # under autocast the bias of positions is another
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout, scale=self.scaling)
        return out[..., :kept]

    def _split(self, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
        """(B, T, sum of sizes) -> (B, heads, T, largest size), filled up with zeros."""
        if len(set(sizes)) == 1:
            return x.unflatten(-1, (len(sizes), sizes[0])).transpose(1, 2)
        most = max(sizes)
        parts = [F.pad(part, (0, most - part.shape[-1])) for part in x.split(sizes, -1)]
        return torch.stack(parts, 1)

    def _together(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Attention of all heads in one call, of what `_split` gives: (B, T, sum of vo)."""
        context = self._products(q, k, v, mask)
        parts = [context[:, head, :, :size] for head, size in enumerate(self.vo_sizes)]
        return torch.cat(parts, -1)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor | None, ...]:
        """As `transformers`' encoder layers call it: (output, attention weights)."""
        return self.attend(hidden_states, attention_mask), None


class PrunableRelativeAttention(PrunableAttention):
    """WavLM's attention: a relative position bias of layer 0, gated in every layer.

    The bias table belongs to the first layer and serves all others; it stays when the attention
    of the first layer is dropped. The gate of head h reads the h-th part of the layer's input.
    """

    gru_rel_pos_const: nn.Parameter
    gru_rel_pos_linear: nn.Linear
    rel_attn_embed: nn.Embedding
    removable = (*PrunableAttention.removable, "gru_rel_pos_const", "gru_rel_pos_linear")

    def __init__(self, dense: Any):
        super().__init__(dense)
        self.num_buckets, self.max_distance = dense.num_buckets, dense.max_distance
        if hasattr(dense, "rel_attn_embed"):
            self.rel_attn_embed = dense.rel_attn_embed
        # `transformers`' own bucket computation, which reads the two attributes above.
        self._relative_positions_bucket: Callable = dense._relative_positions_bucket

    def position_bias(self, time: int) -> Tensor:
        """(base heads, T, T) the bias before gating."""
        device = self.rel_attn_embed.weight.device
        distances = torch.arange(1 - time, time, device=device)
        values = self.rel_attn_embed(self._relative_positions_bucket(distances)).t()
        frame = torch.arange(time, device=device)
        return values.contiguous()[:, frame[None, :] - frame[:, None] + (time - 1)]

    def gates(self, x: Tensor) -> Tensor:
        """(B, T, heads) what multiplies the bias of each query of the heads that are left."""
        parts = x.unflatten(-1, (self.base_heads, -1))
        if len(self.heads) < self.base_heads:
            parts = parts[:, :, list(self.heads)]
        # The eight rows are summed in fours; the sum of the rows says the same in one product.
        weight = self.gru_rel_pos_linear.weight.unflatten(0, (2, 4)).sum(1)
        bias = self.gru_rel_pos_linear.bias.unflatten(0, (2, 4)).sum(1)
        gate_a, gate_b = F.linear(parts, weight, bias).sigmoid().unbind(-1)
        return gate_a * (gate_b * self.gru_rel_pos_const.flatten() - 1.0) + 2.0

    def attend_biased(self, x: Tensor, bias: Tensor, padding: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), the position bias added to the scores.

        Args:
            bias: (base heads, T, T) before gating.
            padding: (B, T) true for frames that nothing attends to.
        """
        if not self.present or not self.heads:
            return self.attend(x)
        gates = self.gates(x)
        if x.device.type == "cpu" and not self.equal:
            return self.out_proj(self._head_by_head(x, bias, gates, padding))
        return self._all_heads(x, bias, gates, padding)

    def _all_heads(self, x: Tensor, bias: Tensor, gates: Tensor, padding: Tensor | None) -> Tensor:
        """(B, T, D) by a fused kernel, which takes the gated bias as a mask."""
        if len(self.heads) < self.base_heads:
            bias = bias[list(self.heads)]
        mask = gates.transpose(1, 2).unsqueeze(-1) * bias
        if padding is not None:
            mask = mask.masked_fill(padding[:, None, None, :], float("-inf"))
        return self.attend(x, mask)

    def _head_by_head(
        self, x: Tensor, bias: Tensor, gates: Tensor, padding: Tensor | None
    ) -> Tensor:
        """(B, T, sum of value dimensions) by plain products.

        The fused kernel wants heads of one size. On a CPU the scores of a single head stay in the
        cache.
        """
        query = (self.q_proj(x) * self.scaling).split(self.qk_sizes, -1)
        key = self.k_proj(x).split(self.qk_sizes, -1)
        value = self.v_proj(x).split(self.vo_sizes, -1)
        dropout = self.attention_dropout if self.training else 0.0
        outputs = []
        for number, head in enumerate(self.heads):
            scores = query[number] @ key[number].transpose(1, 2)
            gate = gates[..., number : number + 1]
            scores.addcmul_(gate.to(scores.dtype), bias[head].to(scores.dtype))
            if padding is not None:
                scores.masked_fill_(padding[:, None], float("-inf"))
            probabilities = F.dropout(scores.softmax(-1), dropout, dropout > 0)
            outputs.append(probabilities @ value[number])
        return torch.cat(outputs, -1)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor | None, ...]:
        """As WavLM's layers call it: (output, attention weights, bias for the next layers)."""
        if position_bias is None:
            position_bias = self.position_bias(hidden_states.shape[1])
        # The mask is (B, T), true where there is speech.
        padding = None if attention_mask is None else ~attention_mask.bool()
        return self.attend_biased(hidden_states, position_bias, padding), None, position_bias


class PrunablePositionalConv(nn.Module):
    """The grouped positional convolution with some output channels gone.

    A dropped channel adds nothing to the residual stream. Groups with equal numbers of channels
    left run as one grouped convolution, others one by one.

    Args:
        dense: the `transformers` module to take geometry and weights from. Its weight norm gives
            way to a plain weight, since the norm runs over all channels and would change when some
            are dropped (`Family.dense_state` folds it).
    """

    def __init__(self, dense: Any):
        super().__init__()
        conv = dense.conv
        sizes = (conv.in_channels, conv.out_channels, conv.kernel_size)
        self.conv = nn.Conv1d(*sizes, conv.stride, conv.padding, groups=conv.groups)
        self.conv.load_state_dict({"weight": conv.weight, "bias": conv.bias})
        # else `transformers` draws it anew, by another rule
        self.conv._is_hf_initialized = True  # type: ignore[assignment]
        self.batch_norm = getattr(dense, "batch_norm", None)
        self.padding, self.activation = dense.padding, dense.activation
        self.channels, self.groups = conv.out_channels, conv.groups
        self.kept: tuple[int, ...] = tuple(range(conv.out_channels))
        #: Gates of the channels that are left, set from outside for one forward pass.
        self.gate: Tensor | None = None

    def restructure(self, kept: tuple[int, ...]) -> None:
        """Take over the numbers of the output channels that are left."""
        self.kept = kept

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        if not self.kept:
            return hidden_states.new_zeros(1, 1, 1)
        x = hidden_states.transpose(1, 2)
        if self.batch_norm is not None:
            x = self.batch_norm(x)
        y = self.activation(self.padding(self._convolve(x)))
        if self.gate is not None:
            y = y * self.gate[:, None]
        if len(self.kept) < self.channels:
            index = torch.tensor(self.kept, device=y.device)
            y = y.new_zeros(*x.shape[:2], y.shape[-1]).index_copy(1, index, y)
        return y.transpose(1, 2)

    def _convolve(self, x: Tensor) -> Tensor:
        share = self.channels // self.groups
        sizes = [0] * self.groups
        for channel in self.kept:
            sizes[channel // share] += 1
        weight, bias, padding = self.conv.weight, self.conv.bias, self.conv.padding
        assert bias is not None and not isinstance(padding, str)
        steps = self.conv.stride[0], padding[0]
        if len(set(sizes)) == 1:
            return _conv1d(x, weight, bias, *steps, self.groups)
        parts = zip(
            x.chunk(self.groups, 1), weight.split(sizes), bias.split(sizes), sizes, strict=True
        )
        return torch.cat([_conv1d(i, w, b, *steps, 1) for i, w, b, n in parts if n], 1)


def _conv1d(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int, groups: int
) -> Tensor:
    """`F.conv1d` of hidden states seen as (B, D, T), whose channels lie next to each other.

    As a 2-d convolution, CPUs read them as they lie. That is a quarter faster, once there are
    frames enough to make up for bringing the weights into the same order.
    """
    short = x.shape[0] * x.shape[2] < LONG_ENOUGH
    if x.device.type != "cpu" or torch.compiler.is_compiling() or short:
        return F.conv1d(x, weight, bias, stride, padding, groups=groups)
    x = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    y = F.conv2d(x, weight.unsqueeze(2), bias, (1, stride), (0, padding), groups=groups)
    return y.squeeze(2)


def resize(module: nn.Module) -> None:
    """Bring the size attributes of a torch layer in line with its (cut) weight."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv1d):
        if 1 < module.groups == module.out_channels == module.in_channels:  # depthwise
            module.groups = module.weight.shape[0]
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
        module.normalized_shape = tuple(module.weight.shape)
    elif isinstance(module, nn.BatchNorm1d) and module.affine:
        module.num_features = module.weight.shape[0]
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = module.num_channels = module.weight.shape[0]
