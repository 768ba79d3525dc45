"""What can be pruned in a model, declared once.

A *site* is one prunable dimension: a set of units that can be kept or dropped one by one. A
*tensor* says which of its dimensions are made of the units of which site. Gating, the
differentiable expected cost, slimming, the exact count, the saved config and the plots are all
derived from these two lists, the latency from a third, of *blocks* that are timed one by one. All
sizes are those of the base (unpruned) architecture; what is left of a pruned model is a set of kept
unit numbers per site.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from espnet_prune.structured.families.layers import Nothing


@dataclass(frozen=True)
class Kind:
    """A kind of sites.

    Attributes:
        title: of a plot of them.
        coarse: a unit is so large that the cost cannot be set by such units.
    """

    title: str
    coarse: bool = False


#: Kinds of sites, from the input of the model to its output, coarse before fine.
KINDS = {
    "cnn": Kind("CNN channels"),
    "pos_conv": Kind("positional convolution channels"),
    "mha": Kind("whole attention", coarse=True),
    "head": Kind("heads", coarse=True),
    "qk": Kind("query-key dimensions"),
    "vo": Kind("value-output dimensions"),
    "conv": Kind("whole convolution module", coarse=True),
    "conv_dim": Kind("convolution channels"),
    "cgmlp": Kind("whole cgMLP", coarse=True),
    "cgmlp_dim": Kind("cgMLP channel pairs"),
    "ffn": Kind("whole feed-forward", coarse=True),
    "ffn_dim": Kind("feed-forward dimensions"),
}
COARSE = tuple(name for name, kind in KINDS.items() if kind.coarse)


@dataclass(frozen=True)
class Scale:
    """Where the gates of a site multiply.

    Attributes:
        target: parameter name; when `dim` is None, a module that takes the gates as its attribute
            `gate` (`ChannelNorm`, `PrunablePositionalConv`).
        dim: dimension of the parameter along which the units lie.
        inherit: multiply by the gates of the parents, too.
    """

    target: str
    dim: int | None
    inherit: bool = False


@dataclass(frozen=True)
class Site:
    """One prunable dimension of the base architecture.

    Attributes:
        name: e.g. `encoder.layers.3.attention.qk`.
        kind: one of `KINDS`.
        size: number of units in the base architecture.
        parents: coarser sites. A unit is kept only if its unit of every parent is kept; the units
            of a parent with p units own equal consecutive shares of this site's units.
        scales: where the gates multiply.
        macs_per_unit: multiply-accumulates per second of audio that one kept unit costs beyond
            those of the tensors (the products inside attention).
        vital: a unit of the first parent whose units of this site are all dropped is dropped.
        at_least: this many units always stay.
    """

    name: str
    kind: str
    size: int
    parents: tuple[str, ...] = ()
    scales: tuple[Scale, ...] = ()
    macs_per_unit: float = 0.0
    vital: bool = False
    at_least: int = 0


@dataclass(frozen=True)
class Tensor:
    """A parameter, which of its dimensions are cut by which site, and how often it is applied.

    Attributes:
        name: parameter name in the backbone.
        cuts: dimension -> site. A dimension of length n cut by a site of u units gives every unit
            n / u consecutive entries. Several sites cut equal consecutive parts of it, as the two
            halves that a gated linear unit multiplies.
        rate: times a second of audio that each element is multiplied (0: no product counted).
    """

    name: str
    cuts: dict[int, str | tuple[str, ...]] = field(default_factory=dict)
    rate: float = 0.0


@dataclass(frozen=True)
class Binding:
    """A module that is told what is left: `module.restructure(**{role: kept units})`."""

    module: str
    sites: dict[str, str]


@dataclass(frozen=True)
class Removal:
    """A module that is replaced when the only unit of a coarse site is dropped."""

    module: str
    site: str
    replacement: type


@dataclass(frozen=True)
class Axis:
    """A size that the time of a block depends on: how many units are left.

    Attributes:
        site: whose units they are.
        per: the units left of this parent divide them, e.g. the mean size of the heads.
    """

    site: str
    per: str | None = None


@dataclass(frozen=True)
class Block:
    """A part of the model whose time depends on what is left of it; the parts do not overlap.

    Attributes:
        kind: blocks of one kind take the same time at the same sizes.
        modules: the first and the last module that run in it.
        axes: its sizes.
    """

    kind: str
    modules: tuple[str, str]
    axes: tuple[Axis, ...]


@dataclass
class Declaration:
    """Everything prunable in one architecture. Parameters not listed are never cut.

    Attributes:
        buffers: name -> site whose units are the entries of a buffer. Buffers cost nothing.
    """

    sites: dict[str, Site] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, str] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def site(self, prefix: str, kind: str, size: int, **kwargs: Any) -> str:
        """Declare a site; parents first. Returns its name, `<prefix>.<kind>`."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind of site '{kind}', choose from {', '.join(KINDS)}")
        name = f"{prefix}.{kind}"
        self.sites[name] = Site(name, kind, size, **kwargs)
        return name

    def tensor(
        self, name: str, cuts: dict[int, str | tuple[str, ...]] | None = None, rate: float = 0.0
    ) -> None:
        """Declare a parameter."""
        self.tensors[name] = Tensor(name, cuts or {}, rate)

    def block(self, kind: str, modules: tuple[str, str], *axes: Axis) -> None:
        """Declare a part that is timed by itself."""
        self.blocks.append(Block(kind, modules, axes))

    def linear(
        self,
        name: str,
        rate: float,
        rows: str | tuple[str, ...] | None = None,
        columns: str | None = None,
        bias: str | None = None,
        has_bias: bool = True,
    ) -> None:
        """Declare `nn.Linear` or a convolution `name`.

        Args:
            rate: applications per second of audio.
            rows, columns: sites that cut the output and the input dimension.
            bias: site that cuts the bias where it is not the site of the rows.
        """
        cuts = {dim: site for dim, site in ((0, rows), (1, columns)) if site}
        self.tensor(f"{name}.weight", cuts, rate)
        of_bias = bias or rows
        if has_bias:
            self.tensor(f"{name}.bias", {0: of_bias} if of_bias else {})

    def norm(self, name: str, site: str | None) -> None:
        """Declare the weight and the bias of a normalisation over the units of `site`."""
        for part in ("weight", "bias"):
            self.tensor(f"{name}.{part}", {0: site} if site else {})

    def batch_norm(self, name: str, site: str) -> None:
        """Declare a batch normalisation over the units of `site`, its running statistics too."""
        self.norm(name, site)
        self.buffers |= {f"{name}.running_{part}": site for part in ("mean", "var")}

    def attention(
        self,
        prefix: str,
        heads: int,
        width: int,
        rate: float,
        seconds: float,
        key_bias: bool = True,
        pre_norm: str | None = None,
        macs_per_head: float = 0.0,
        projections: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj"),
        query_biases: tuple[str, ...] = (),
        positions: tuple[str, float] | None = None,
    ) -> tuple[str, str]:
        """Declare a self-attention sub-layer (a `PrunableAttention` at `prefix`).

        softmax(X Wq diag(z_qk) (X Wk)^T / sqrt(d)) X Wv diag(z_vo) Wo + b, each head with a gate,
        and the whole (with its output bias) with another.

        Args:
            pre_norm: the LayerNorm in front, which goes when the whole sub-layer goes.
            macs_per_head: multiply-accumulates per second beyond the projections and products.
            projections: names of the modules for query, key, value and output.
            query_biases: names of (width,) parameters that are added to the query.
            positions: a linear layer without bias whose outputs meet the query as keys do, and
                how many of them there are for a frame.
        Returns: names of the whole-MHA site and of the head site.
        """
        query, key, value, out = (f"{prefix}.{name}" for name in projections)
        mha = self.site(prefix, "mha", 1, scales=(Scale(f"{out}.bias", 0),))
        head = self.site(prefix, "head", heads, parents=(mha,), macs_per_unit=macs_per_head)
        shared: dict[str, Any] = {
            "parents": (head, mha),
            "macs_per_unit": rate * rate * seconds,  # a product with every frame of the context
        }
        biases = [f"{query}.bias", *(f"{prefix}.{name}" for name in query_biases)]
        of_query = tuple(Scale(name, 0) for name in (f"{query}.weight", *biases))
        of_out = (Scale(f"{out}.weight", 1, inherit=True),)
        per_frame = positions[1] if positions else 0.0
        more = {"macs_per_unit": shared["macs_per_unit"] * (1 + per_frame)}
        qk = self.site(prefix, "qk", width, scales=of_query, **(shared | more))
        vo = self.site(prefix, "vo", width, scales=of_out, vital=True, **shared)
        self.linear(query, rate, rows=qk)
        self.linear(key, rate, rows=qk, has_bias=key_bias)
        self.linear(value, rate, rows=vo)
        for name in biases[1:]:
            self.tensor(name, {0: qk})
        if positions:
            self.linear(f"{prefix}.{positions[0]}", rate * per_frame, rows=qk, has_bias=False)
        self.linear(out, rate, columns=vo, bias=mha)
        self.bindings.append(Binding(prefix, {"mha": mha, "heads": head, "qk": qk, "vo": vo}))
        self._owned_norm(pre_norm, mha)
        # Apart: where a head is padded to the larger (`PrunableAttention`), 2 and 60 dimensions
        # take more time than 31 and 31
        sizes = (Axis(head), Axis(qk, per=head), Axis(vo, per=head))
        self.block("attention", (pre_norm or prefix, prefix), *sizes)
        return mha, head

    def feed_forward(
        self,
        name: str,
        up: str,
        down: str,
        size: int,
        rate: float,
        removed: tuple[str, ...],
        pre_norm: str | None = None,
    ) -> None:
        """Declare a feed-forward sub-layer with linear layers `up` and `down`.

        Args:
            name: prefix of the sites' names.
            size: intermediate dimension.
            removed: modules in the order in which they run, gone when the whole sub-layer goes.
            pre_norm: the LayerNorm in front, which goes with it.
        """
        ffn = self.site(name, "ffn", 1, scales=(Scale(f"{down}.bias", 0),))
        scales = (Scale(f"{down}.weight", 1, inherit=True),)
        dim = self.site(name, "ffn_dim", size, parents=(ffn,), scales=scales)
        self.linear(up, rate, rows=dim)
        self.linear(down, rate, columns=dim, bias=ffn)
        self.removals += [Removal(module, ffn, Nothing) for module in removed]
        self._owned_norm(pre_norm, ffn)
        self.block("feed_forward", (pre_norm or removed[0], removed[-1]), Axis(dim))

    def removal(
        self, module: str, site: str, replacement: type, pre_norm: str | None = None
    ) -> None:
        """Declare a module that goes with the only unit of a site, and the LayerNorm in front."""
        self.removals.append(Removal(module, site, replacement))
        self._owned_norm(pre_norm, site)

    def _owned_norm(self, name: str | None, site: str) -> None:
        if name is not None:
            self.norm(name, site)
            self.removals.append(Removal(name, site, nn.Identity))
