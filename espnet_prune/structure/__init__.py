"""Sites put to work: gates on encoders, costs, slimming, saving and loading."""

from espnet_prune.structure.encoder import (
    SpeechEncoder,
    SpeechEncoderConfig,
    SpeechEncoderOutput,
    load_encoder,
)
from espnet_prune.structure.gated import GatedEncoder
from espnet_prune.structure.latency import LatencyTable
from espnet_prune.structure.plan import Cost, Kept, Plan
from espnet_prune.structure.slim import outline, slim

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
    "outline",
    "slim",
]
