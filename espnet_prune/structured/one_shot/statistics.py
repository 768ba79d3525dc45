"""What one-shot pruning has to know of a model: what its layers read, and what depends on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from espnet_prune.structured.encoder import SpeechEncoder, SpeechEncoderOutput
from espnet_prune.structured.families.layers import PrunableAttention
from espnet_prune.structured.heads import Predictor
from espnet_prune.structured.plan import Plan

#: most frames of one waveform that go into a Gram matrix
FRAMES = 2048
#: rows of a Gram matrix are computed in so many blocks, up to the diagonal
BLOCKS = 4
#: kept shares of a head's query-key dimensions at which the error of its output is measured
SHARES = (0.0, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8)

#: The output of the encoder, its number of waveform -> scalar; errors matter by its gradient.
Probe = Callable[[SpeechEncoderOutput, int], Tensor]


@dataclass
class Reader:
    """A linear layer or convolution that reads the units of a site.

    Attributes:
        name: of the layer.
        module: the layer.
        width: features of a unit.
        gram: (C, C) of its features, a constant last if the layer has a bias, weighted by how much
            their frames matter; the mean over waveforms.
        sensitivity: (D,) what a squared error of each output costs.
    """

    name: str
    module: nn.Linear | nn.Conv1d
    width: int
    gram: Tensor = field(default_factory=lambda: torch.zeros(()))
    sensitivity: Tensor = field(default_factory=lambda: torch.zeros(()))

    def features(self, x: Tensor, some: slice) -> Tensor:
        """(frames, C) of an input of the layer, at some of its output's frames."""
        if isinstance(self.module, nn.Conv1d):
            sizes = (self.module.padding, self.module.kernel_size, self.module.stride)
            pad, kernel, stride = (int(size[0]) for size in sizes)
            x = F.pad(x, (pad, pad)).unfold(2, kernel, stride).transpose(1, 2)
        x = x.flatten(0, 1)[some].flatten(1)
        return x if self.module.bias is None else F.pad(x, (0, 1), value=1.0)

    def add(self, x: Tensor, matters: Tensor, share: float) -> None:
        """Add `share` times the products of features x (frames, C), weighted by `matters`
        (frames,), to the lower triangle of `gram`, in float32 at least: that is twice as fast as
        float64, and `RIDGE` is far above what is lost."""
        x = x.to(torch.promote_types(x.dtype, torch.float32)) * matters.sqrt().to(x)[:, None]
        if not self.gram.dim():
            self.gram = x.new_zeros(x.shape[1], x.shape[1])
        size = max(1, -(-x.shape[1] // BLOCKS))
        for start in range(0, x.shape[1], size):
            end = start + size  # slices end with the matrix
            lower = self.gram[start:end, :end]
            lower.addmm_(x[:, start:end].T, x[:, :end], alpha=share)

    def done(self) -> None:
        """Make `gram` whole, in float64."""
        lower = self.gram.tril().cpu().double()
        self.gram = lower + lower.tril(-1).T

    def frames(self, y: Tensor) -> Tensor:
        """(frames, D) of an output of the layer."""
        return (y if isinstance(self.module, nn.Linear) else y.transpose(1, 2)).flatten(0, 1)

    def weight(self) -> Tensor:
        """(C, D) in float64, the bias last."""
        weight = self.module.weight.detach().cpu().double().flatten(1).T
        bias = self.module.bias
        return weight if bias is None else torch.cat([weight, bias.detach().cpu().double()[None]])

    def weigh(self) -> Tensor:
        """`weight`, each column times the root of its output's sensitivity."""
        return self.weight() * self.sensitivity.sqrt()


@dataclass
class Heads:
    """An attention, and Gram matrices (d, d) of each of its heads.

    Attributes:
        name, module: of the attention.
        reader: of its values, the output projection.
        query, key, value: of queries, of keys around their mean (which softmax does not see), and
            of attended values.
    """

    name: str
    module: PrunableAttention
    reader: Reader
    query: list[Tensor] = field(default_factory=list)
    key: list[Tensor] = field(default_factory=list)
    value: list[Tensor] = field(default_factory=list)


@dataclass
class Statistics:
    """Of calibration audio: site -> its reader, name -> attention, and site without a reader ->
    (units,) the error that each unit leaves when it goes."""

    readers: dict[str, Reader]
    heads: dict[str, Heads]
    energies: dict[str, Tensor]


class _Seen:
    """The last input and output of a module."""

    input: Tensor
    output: Tensor

    def __init__(self, module: nn.Module):
        self.handle = module.register_forward_hook(self._take)

    def _take(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        self.input, self.output = args[0].detach(), output
        if output.requires_grad:
            output.retain_grad()
        elif torch.is_grad_enabled():
            # Nothing before it has a gradient: the graph begins here
            self.output = output.detach().requires_grad_()
            return self.output.clone()  # a leaf must not be changed in place
        return None

    def gradient(self) -> Tensor:
        """Of the output, after a backward pass."""
        assert self.output.grad is not None
        return self.output.grad


@contextmanager
def seen(modules: dict[str, nn.Module]) -> Iterator[dict[str, _Seen]]:
    """While active, the last input and output of each module."""
    found = {name: _Seen(module) for name, module in modules.items()}
    try:
        yield found
    finally:
        for each in found.values():
            each.handle.remove()


def random_probe(seed: int) -> Probe:
    """<v, last state> for v ~ N(0, 1): every error of the model's output costs the same."""

    def probe(output: SpeechEncoderOutput, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(1000003 * seed + number)
        last = output.last_hidden_state
        assert last is not None
        noise = torch.randn(last.shape, generator=generator).to(last)
        return (last * noise).sum()

    return probe


def head_probe(head: Predictor, seed: int) -> Probe:
    """log p(y) for predictions y ~ p of a head: its squared gradient is what a small error of the
    state changes of them, in the KL divergence (Fisher information)."""

    def probe(output: SpeechEncoderOutput, number: int) -> Tensor:
        last = output.last_hidden_state
        assert last is not None
        found = head.log_probabilities(last).flatten(0, -2)
        generator = torch.Generator().manual_seed(1000003 * seed + number)
        chances = found.detach().exp().cpu()
        drawn = torch.multinomial(chances, 1, generator=generator).to(found.device)
        return found.gather(1, drawn).sum()

    return probe


def gather(
    encoder: SpeechEncoder, plan: Plan, waveforms: Sequence[Tensor], probe: Probe
) -> Statistics:
    """Forward and backward passes over calibration audio.

    Args:
        encoder: in eval mode; no parameter is changed.
        plan: of the encoder.
        waveforms: (T,) at 16 kHz each.
        probe: what errors matter for, see `Probe`.
    Raises:
        ValueError: a state is NaN or infinite.
    """
    backbone = encoder.backbone
    readers: dict[str, Reader] = {}
    heads: dict[str, Heads] = {}
    owners: dict[str, str] = {}  # of sites without a reader: the module whose outputs are the units
    for site in plan.prunable():
        scales = plan.sites[site].scales
        read = [scale.target.removesuffix(".weight") for scale in scales if scale.dim == 1]
        if read:
            module = backbone.get_submodule(read[0])
            width = module.weight[0].numel() // plan.size(site)
            readers[site] = Reader(read[0], module, width)
        elif scales and scales[0].dim is None:
            owners[site] = scales[0].target
    of = {reader.name: reader for reader in readers.values()}
    for name, module in backbone.named_modules():
        if isinstance(module, PrunableAttention) and f"{name}.{module.projections[3]}" in of:
            heads[name] = Heads(name, module, of[f"{name}.{module.projections[3]}"])
    energies = {site: torch.zeros(plan.size(site)).double() for site in owners}
    watched: dict[str, nn.Module] = {r.name: r.module for r in readers.values()}
    watched |= {name: backbone.get_submodule(name) for name in owners.values()}
    for each in heads.values():
        for part in (*each.module.projections, *each.module.positions):
            watched[f"{each.name}.{part}"] = each.module.get_submodule(part)
    share = 1.0 / len(waveforms)
    with seen(watched) as last, _frozen(encoder):
        for number, waveform in enumerate(tqdm(waveforms, desc="read audio")):
            with torch.enable_grad():
                output = _listen(encoder, waveform)
                scalar = probe(output, number)
            if not bool(scalar.isfinite()):
                raise ValueError(f"waveform {number} of the calibration: the states are NaN")
            scalar.backward()
            for reader in readers.values():
                at = last[reader.name]
                gradient = reader.frames(at.gradient()).double().square()
                matters, sensitivity = gradient.mean(1), gradient.mean(0)
                matters = matters / sensitivity.mean().clamp(min=1e-30)
                reader.sensitivity = reader.sensitivity + share * sensitivity.cpu()
                step = -(-len(matters) // FRAMES)
                some = slice(number % step, None, step)
                reader.add(reader.features(at.input, some), matters[some], share * step)
            for site, name in owners.items():
                at = last[name]
                error = (at.output.detach() * at.gradient()).double().square()
                owner: Any = watched[name]  # in whose output a zero stands for what is gone
                energies[site] += share * error.flatten(0, 1).sum(0)[list(owner.kept)].cpu()
            for each in heads.values():
                _add_heads(each, last)
    for reader in readers.values():
        reader.done()
    return Statistics(readers, heads, energies)


def _listen(encoder: SpeechEncoder, waveform: Tensor) -> SpeechEncoderOutput:
    return encoder(waveform[None].to(encoder.device), torch.tensor([len(waveform)]))


def _add_heads(heads: Heads, last: dict[str, _Seen]) -> None:
    module, outputs = heads.module, {}
    for name in (*module.projections[:2], *module.positions):
        outputs[name] = last[f"{heads.name}.{name}"].output.detach().flatten(0, 1)
    query, key = (outputs[name] for name in module.projections[:2])
    queries = [query + getattr(module, name).detach() for name in module.query_biases]
    value = last[f"{heads.name}.{module.projections[3]}"].input.flatten(0, 1)
    # A query meets as many keys as positions
    keys = [key - key.mean(0)] + [
        outputs[name] * (len(key) / len(outputs[name])) ** 0.5 for name in module.positions
    ]
    for grams, rows, sizes in (
        (heads.query, torch.cat(queries or [query]), module.qk_sizes),
        (heads.key, torch.cat(keys), module.qk_sizes),
        (heads.value, value, module.vo_sizes),
    ):
        found = [(part.T @ part).cpu() for part in rows.double().split(sizes, -1)]
        grams[:] = [a + b for a, b in zip(grams, found, strict=True)] if grams else found


@contextmanager
def _frozen(encoder: SpeechEncoder) -> Iterator[None]:
    """While active, no parameter has a gradient."""
    wanted = {name: p.requires_grad for name, p in encoder.named_parameters()}
    try:
        encoder.requires_grad_(False)
        yield
    finally:
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_(wanted[name])


@torch.no_grad()
def query_key_errors(
    encoder: SpeechEncoder, statistics: Statistics, waveforms: Sequence[Tensor]
) -> dict[str, list[dict[int, float]]]:
    """attention -> for each head, kept query-key dimensions (the first ones) -> error.

    The error is that of the attention's output, weighted by sensitivity as those of `eliminate`.
    """
    calls: dict[str, tuple[tuple, dict]] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: calls.update({name: (args, kwargs)})

    errors = {
        name: [{size: 0.0} for size in each.module.qk_sizes]
        for name, each in statistics.heads.items()
    }
    handles = [
        statistics.heads[name].module.register_forward_pre_hook(keep(name), with_kwargs=True)
        for name in errors
    ]
    try:
        for waveform in tqdm(waveforms, desc="measure heads"):
            _listen(encoder, waveform)
            for name, found in errors.items():
                _measure(statistics.heads[name], calls[name], found)
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: [{kept: error / len(waveforms) for kept, error in head.items()} for head in found]
        for name, found in errors.items()
    }


def curve(measured: Mapping[int, float]) -> np.ndarray:
    """The error at each number of kept dimensions, from 0 on, between those that were measured."""
    kept = sorted(measured)
    return np.interp(range(max(measured) + 1), kept, [measured[n] for n in kept])


def _measure(heads: Heads, call: tuple[tuple, dict], found: list[dict]) -> None:
    module, reader = heads.module, heads.reader
    args, kwargs = call
    out = getattr(module, module.projections[3])
    weight = (
        reader.weigh()[: sum(module.vo_sizes)].float().to(out.weight.device).split(module.vo_sizes)
    )
    queries = module.query_side()
    saved = [parameter.clone() for parameter in queries]
    with seen({"out": out}) as last:
        module(*args, **kwargs)
        whole = last["out"].input.split(module.vo_sizes, -1)
        for share in SHARES:
            kept = [round(share * size) for size in module.qk_sizes]
            pairs = zip(kept, module.qk_sizes, strict=True)
            mask = torch.cat([torch.arange(size) < n for n, size in pairs]).to(out.weight.device)
            try:
                for parameter in queries:
                    parameter.mul_(mask.view(-1, *[1] * (parameter.dim() - 1)))
                module(*args, **kwargs)
            finally:
                for parameter, before in zip(queries, saved, strict=True):
                    parameter.copy_(before)
            parts = last["out"].input.split(module.vo_sizes, -1)
            for head, errors in enumerate(found):
                error = ((parts[head] - whole[head]) @ weight[head]).square().sum()
                errors[kept[head]] = errors.get(kept[head], 0.0) + float(error)
