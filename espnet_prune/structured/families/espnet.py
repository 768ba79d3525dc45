"""The encoders of ESPnet: Transformer, Conformer, Branchformer and E-Branchformer.

They read features instead of waveforms and are built by ESPnet, so that they are no `Family`. What
can be pruned is the same. Their modules are known by their names, and nothing of ESPnet is
imported.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from espnet_prune.structured.families.declaration import Axis, Declaration, Scale
from espnet_prune.structured.families.layers import ChannelNorm, PrunableAttention

#: names of the attention of a layer, and of the norm in front
ATTENTIONS = {"self_attn": ("norm_mha", "norm1"), "attn": ("norm_mha",)}
#: the same of feed-forward sub-layers
FEED_FORWARDS = {"feed_forward": ("norm_ff", "norm2"), "feed_forward_macaron": ("norm_ff_macaron",)}
PROJECTIONS = ("linear_q", "linear_k", "linear_v", "linear_out")


class EspnetAttention(PrunableAttention):
    """ESPnet's self-attention whose heads may have different numbers of dimensions.

    With relative positions P and biases u and v, head h has the scores

        s ((Q_h + u_h) K_h^T + shift((Q_h + v_h) P_h^T))

    (Transformer-XL, arXiv 1901.02860, section 3.3). u and v have one entry for each query-key
    dimension that is left, (sum(qk_h),), where ESPnet has (heads, head dimension). Heads are filled
    up with zeros to the size of the largest and computed together.

    Args:
        dense: ESPnet's module to take the projections from.
    Raises:
        ValueError: it normalises queries and keys.
    """

    linear_q: nn.Linear
    linear_k: nn.Linear
    linear_v: nn.Linear
    linear_out: nn.Linear
    linear_pos: nn.Linear
    pos_bias_u: nn.Parameter
    pos_bias_v: nn.Parameter
    projections: tuple[str, ...] = PROJECTIONS
    removable: tuple[str, ...] = PROJECTIONS

    def __init__(self, dense: Any):
        nn.Module.__init__(self)
        if not isinstance(getattr(dense, "q_norm", nn.Identity()), nn.Identity):
            raise ValueError("qk_norm: true, which encoders that are pruned cannot have")
        for name in self.projections:
            setattr(self, name, getattr(dense, name))
        dropout = float(getattr(dense, "dropout_rate", 0.0) or dense.dropout.p)
        self._whole(int(dense.h), int(dense.d_k), dropout)
        if hasattr(dense, "linear_pos"):
            self.query_biases, self.positions = ("pos_bias_u", "pos_bias_v"), ("linear_pos",)
            self.removable = (*self.projections, *self.positions, *self.query_biases)
            self.linear_pos, self.zero_triu = dense.linear_pos, dense.zero_triu
            for name in self.query_biases:
                setattr(self, name, nn.Parameter(getattr(dense, name).detach().flatten()))
            #: ESPnet's own, of the class, as the module itself would be copied with all weights
            self.rel_shift = type(dense).rel_shift

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, *rest: Tensor | None
    ) -> Tensor:
        """As ESPnet's encoder layers call it.

        Args:
            query, key, value: (B, T1, D), (B, T2, D), (B, T2, D).
            rest: embeddings of relative positions (1, P, D), where there are any; and a mask, true
                where there is speech, (B, 1, T2) or (B, T1, T2), or None.
        Returns: (B, T1, D).
        """
        if not self.present:
            return torch.zeros_like(query)
        if not self.heads:
            return 0.0 * query + self.linear_out.bias  # what is in front still gets a gradient
        *position, mask = rest
        q, k = (
            self._split(projected, self.qk_sizes)
            for projected in (self.linear_q(query), self.linear_k(key))
        )
        v = self._split(self.linear_v(value), self.vo_sizes)
        attend = None if mask is None else mask.bool().unsqueeze(1)
        if self.positions:
            assert position[0] is not None
            p = self._split(self.linear_pos(position[0]), self.qk_sizes)
            u, w = (
                self._split(bias.view(1, 1, -1), self.qk_sizes)
                for bias in (self.pos_bias_u, self.pos_bias_v)
            )
            shifted = self.rel_shift(self, (q + w) @ p.transpose(2, 3)) * self.scaling
            if attend is not None:
                shifted = shifted.masked_fill(~attend, float("-inf"))
            q, attend = q + u, shifted
        return self.linear_out(self._together(q, k, v, attend))


class NoBranch(nn.Module):
    """A removed part of a layer: zeros of the size of what it was given."""

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        mask_pad: Tensor | None = None,  # ESPnet 202611 masks what convolutions read
    ) -> Tensor:
        return torch.zeros_like(x[0] if isinstance(x, tuple) else x)


def make_prunable(encoder: Any) -> None:
    """Put this package's layers into one of ESPnet's encoders; it computes the same.

    Raises:
        ValueError: an attention that normalises queries and keys.
    """
    for layer in encoder.encoders:
        for name in ATTENTIONS:
            attention = getattr(layer, name, None)
            if all(hasattr(attention, part) for part in PROJECTIONS):
                setattr(layer, name, EspnetAttention(attention))
        csgu = getattr(getattr(layer, "cgmlp", None), "csgu", None)
        if csgu is not None:
            norm = ChannelNorm(len(csgu.norm.weight), csgu.norm.eps)
            norm.load_state_dict(csgu.norm.state_dict())
            csgu.norm = norm


def declare(encoder: Any, rate: float, seconds: float) -> Declaration:
    """What can be pruned in an encoder of `make_prunable`.

    The sub-sampling in front, the layers that join the branches of a Branchformer, feed-forward
    sub-layers of convolutions and FastFormer's attention stay whole.

    Args:
        rate: frames per second in the layers.
        seconds: length of the utterances that costs are given for.
    """
    d = Declaration()
    for number, layer in enumerate(encoder.encoders):
        prefix = f"encoders.{number}"
        pre_norm = getattr(layer, "normalize_before", True)

        def norm(
            *names: str, layer: Any = layer, before: bool = pre_norm, at: str = prefix
        ) -> str | None:
            """The norm in front of a sub-layer, which goes with it; one behind stays."""
            found = [f"{at}.{name}" for name in names if hasattr(layer, name)]
            return found[0] if before and found else None

        for name, norms in ATTENTIONS.items():
            attention = getattr(layer, name, None)
            if isinstance(attention, EspnetAttention):
                _attention(d, f"{prefix}.{name}", attention, rate, seconds, norm(*norms))
        for name, norms in FEED_FORWARDS.items():
            part, at = getattr(layer, name, None), f"{prefix}.{name}"
            if part is not None and isinstance(part.w_1, nn.Linear):
                ends, size = (f"{at}.w_1", f"{at}.w_2"), part.w_1.weight.shape[0]
                d.feed_forward(at, *ends, size, rate, (at,), norm(*norms))
        if getattr(layer, "conv_module", None) is not None:
            _convolution(d, f"{prefix}.conv_module", layer.conv_module, rate, norm("norm_conv"))
        if getattr(layer, "cgmlp", None) is not None:
            _gating(d, f"{prefix}.cgmlp", layer.cgmlp, rate, norm("norm_mlp"))
    return d


def _attention(
    d: Declaration, at: str, module: EspnetAttention, rate: float, seconds: float, norm: str | None
) -> None:
    width = module.base_heads * module.base_head_dim
    positions = None
    if module.positions:
        # ESPnet's legacy positions do not reach into the future
        legacy = "Legacy" in module.rel_shift.__qualname__
        positions = (module.positions[0], 1.0 if legacy else 2.0)
    d.attention(
        *(at, module.base_heads, width, rate, seconds),
        pre_norm=norm,
        projections=module.projections,
        query_biases=module.query_biases,
        positions=positions,
    )


def _convolution(d: Declaration, at: str, module: Any, rate: float, norm: str | None) -> None:
    """W_2 swish(BN(depthwise(GLU(W_1 x)))): channel c reads rows c and C + c of W_1."""
    has_bias = module.pointwise_conv2.bias is not None
    scales = (Scale(f"{at}.pointwise_conv2.bias", 0),) if has_bias else ()
    whole = d.site(at, "conv", 1, scales=scales)
    reads = (Scale(f"{at}.pointwise_conv2.weight", 1, inherit=True),)
    channels = module.depthwise_conv.out_channels
    dim = d.site(at, "conv_dim", channels, parents=(whole,), scales=reads, vital=True)
    d.linear(f"{at}.pointwise_conv1", rate, rows=(dim, dim), has_bias=has_bias)
    d.linear(f"{at}.depthwise_conv", rate, rows=dim, has_bias=has_bias)
    d.batch_norm(f"{at}.norm", dim)
    d.linear(f"{at}.pointwise_conv2", rate, columns=dim, bias=whole, has_bias=has_bias)
    d.removal(at, whole, NoBranch, norm)
    d.block("convolution", (norm or at, at), Axis(dim))


def _gating(d: Declaration, at: str, module: Any, rate: float, norm: str | None) -> None:
    """W_2 (r * act(depthwise(LN(g)))) with [r, g] = GELU(W_1 x): pair c has rows c and C + c."""
    gate = module.csgu
    whole = d.site(at, "cgmlp", 1, scales=(Scale(f"{at}.channel_proj2.bias", 0),))
    scales = [Scale(f"{at}.channel_proj2.weight", 1, inherit=True)]
    scales += [Scale(f"{at}.csgu.norm", None, inherit=True)]
    if gate.linear is not None:
        scales += [Scale(f"{at}.csgu.linear.weight", 1, inherit=True)]
    pairs = module.channel_proj2.in_features
    dim = d.site(at, "cgmlp_dim", pairs, parents=(whole,), scales=tuple(scales), vital=True)
    d.linear(f"{at}.channel_proj1.0", rate, rows=(dim, dim))
    d.norm(f"{at}.csgu.norm", dim)
    d.linear(f"{at}.csgu.conv", rate, rows=dim)
    if gate.linear is not None:
        d.linear(f"{at}.csgu.linear", rate, rows=dim, columns=dim)
    d.linear(f"{at}.channel_proj2", rate, columns=dim, bias=whole)
    d.removal(at, whole, NoBranch, norm)
    d.block("cgmlp", (norm or at, at), Axis(dim))
