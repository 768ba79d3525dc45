"""Structured pruning of speech encoders: gates, costs, slimming, saving and loading."""

from espnet_prune.structured.cost.latency import LatencyTable
from espnet_prune.structured.encoder import (
    SpeechEncoder,
    SpeechEncoderConfig,
    SpeechEncoderOutput,
    load_encoder,
)
from espnet_prune.structured.gated_encoder import GatedEncoder
from espnet_prune.structured.plan import Cost, Kept, Plan
from espnet_prune.structured.slim import slim

__all__ = [
    "Cost",
    "GatedEncoder",
    "Kept",
    "LatencyTable",
    "Plan",
    "SpeechEncoder",
    "SpeechEncoderConfig",
    "SpeechEncoderOutput",
    "load_encoder",
    "slim",
]
