"""ESPnet's own encoders, pruned: encoder `pruned`, and the same as pruning sees them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.encoder.branchformer_encoder import BranchformerEncoder
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder
from torch import Tensor

from espnet_prune.structured.encoder import SpeechEncoderOutput, check_keys, format_units, read_kept
from espnet_prune.structured.families.espnet import declare, make_prunable
from espnet_prune.structured.plan import Kept, Plan
from espnet_prune.structured.restructure import restructure

#: what ESPnet's YAML files call an encoder that can be pruned -> its class
BASES: dict[str, type] = {
    "transformer": TransformerEncoder,
    "conformer": ConformerEncoder,
    "branchformer": BranchformerEncoder,
    "e_branchformer": EBranchformerEncoder,
}


@dataclass(frozen=True)
class Structure:
    """What an encoder is built from: `encoder_conf` of the encoder `pruned`, and the features.

    Attributes:
        input_size: width of the features.
        base: key of `BASES`.
        base_conf: `encoder_conf` of the dense encoder.
        kept: site -> kept units as runs ("0-2,5"); sites that are absent are whole.
    """

    input_size: int
    base: str
    base_conf: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def conf(self) -> dict[str, Any]:
        """The `encoder_conf`."""
        return {"base": self.base, "base_conf": dict(self.base_conf), "kept": dict(self.kept)}


class EspnetEncoder(torch.nn.Module):
    """One of ESPnet's encoders as gating, slimming and one-shot pruning take it.

    Args:
        structure: what to build, with weights as initialised.
        rate: frames per second in the layers, for the cost.
        seconds: length of the utterances that costs are given for.
    Raises:
        ValueError: an unknown base, one that cannot be pruned, or no units of it.
    """

    def __init__(self, structure: Structure, rate: float = 25.0, seconds: float = 10.0):
        super().__init__()
        self.structure, self.rate, self.seconds = structure, rate, seconds
        base, kept = structure.base, structure.kept
        if base not in BASES:
            raise ValueError(f"encoder pruned: base: {base!r}, choose from {', '.join(BASES)}")
        self.backbone = BASES[base](structure.input_size, **structure.base_conf)
        try:
            make_prunable(self.backbone)
        except ValueError as error:
            raise ValueError(f"encoder {base}: {error}") from None
        # What ESPnet's models add to an encoder later is no part of it
        self._shapes = {name: tuple(p.shape) for name, p in self.backbone.named_parameters()}
        self._declaration = declare(self.backbone, rate, seconds)
        self.kept = read_kept(kept, self._declaration.sites, base, "encoder pruned")
        if self.kept:
            self._cut()

    def _cut(self) -> None:
        """Leave of a dense encoder what is kept; what is trained from scratch begins with these."""
        dense, plan = Plan(self._declaration, self._shapes), self.plan()
        initial, masks = self.backbone.state_dict(), plan.masks()
        restructure(self.backbone, plan)
        names = self.backbone.state_dict().keys()
        self.backbone.load_state_dict({n: dense.cut(n, initial[n], masks) for n in names})

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return next(self.backbone.parameters()).device

    def plan(self, seconds: float | None = None, protected: Iterable[str] = ()) -> Plan:
        """What can be pruned in this encoder as it is now; costs are for its own `seconds`."""
        return Plan(self._declaration, self._shapes, self.kept, protected)

    def outline(self, kept: Kept) -> EspnetEncoder:
        """An encoder of the same base of which `kept` is left, weights as initialised."""
        sites, old = self._declaration.sites, self.structure
        runs = {n: format_units(u) for n, u in kept.items() if len(u) < sites[n].size}
        new = Structure(old.input_size, old.base, old.base_conf, runs)
        return EspnetEncoder(new, self.rate, self.seconds)

    def load(self, encoder: torch.nn.Module) -> None:
        """Take the weights of ESPnet's encoder of this structure, dense or pruned.

        Raises:
            ValueError: they do not fit.
        """
        own = self.backbone.state_dict()
        state = encoder.state_dict()
        check_keys(own.keys() - state.keys(), state.keys() - own.keys(), "the encoder ")
        # Biases of positions have a row for each head in ESPnet
        self.backbone.load_state_dict({n: v.reshape(own[n].shape) for n, v in state.items()})

    def forward(self, features: Tensor, lengths: Tensor) -> SpeechEncoderOutput:
        """
        Args:
            features: (B, T, input_size).
            lengths: (B,) frames.
        """
        if torch.is_grad_enabled():  # so that every sub-layer's output has a gradient
            features = features.detach().requires_grad_()
        states, frames, _ = self.backbone(features, lengths)
        return SpeechEncoderOutput(states[0] if isinstance(states, tuple) else states, None, frames)


class PrunedEncoder(AbsEncoder):
    """An encoder of ESPnet of which a part is left, as `espnet-prune encoder prune` writes it.

    In an ESPnet YAML file (numbers of the units that are left of the dense encoder):

        encoder: pruned
        encoder_conf:
            base: conformer
            base_conf: {output_size: 256, attention_heads: 4, num_blocks: 12, ...}
            kept: {encoders.0.feed_forward.ffn_dim: 0-2,5, ...}

    What is built is ESPnet's own class with smaller layers, so that parameters have its names.

    Args:
        input_size: width of the features.
        base: transformer, conformer, branchformer or e_branchformer.
        base_conf: `encoder_conf` of the dense encoder.
        kept: site -> kept units as runs; sites that are absent are whole.
    Raises:
        ValueError: as `EspnetEncoder`; a checkpoint that is loaded is not of this structure.
    """

    def __new__(  # type: ignore[misc]
        cls, input_size: int, base: str, base_conf: dict | None = None, kept: dict | None = None
    ) -> AbsEncoder:
        structure = Structure(input_size, base, base_conf or {}, kept or {})
        encoder = EspnetEncoder(structure).backbone
        encoder.register_load_state_dict_pre_hook(_check_state)
        return encoder


def _check_state(module: torch.nn.Module, state: dict, prefix: str, *args: Any) -> None:
    """ESPnet loads with strict=False, which keeps quiet about a checkpoint that does not fit."""
    given = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    own = module.state_dict()
    where = "encoder pruned: the checkpoint "
    check_keys(own.keys() - given.keys(), given.keys() - own.keys(), where)
    for name, value in own.items():
        if given[name].shape != value.shape:
            shapes = f"{tuple(given[name].shape)} instead of {tuple(value.shape)}"
            text = f"has {name} {shapes}: 'encoder_conf' must be what the training used"
            raise ValueError(f"{where}{text}")
