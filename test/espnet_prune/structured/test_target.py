"""Gates and multipliers alone, at full size: a target in MACs is reached, counted by torch."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import WavLMConfig

from espnet_prune.structured import GatedEncoder, SpeechEncoder, SpeechEncoderConfig, slim
from test.espnet_prune.gate_training import train_gates

SECONDS = 10
UPDATES = 200


def counted(encoder) -> int:
    """Multiply-accumulates of 10 s of audio."""
    speech = torch.zeros(1, SECONDS * 16000, device="meta")
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(speech)
    return counter.get_total_flops() // 2


def test_a_target_in_macs_is_reached():
    base = WavLMConfig().to_dict()
    with torch.device("meta"):
        encoder = SpeechEncoder(SpeechEncoderConfig(family="wavlm", base=base)).eval()
    gated = GatedEncoder(encoder, cost="macs")
    target = 0.65
    train_gates(gated, target, UPDATES, ramp=100)
    assert gated.expected_sparsity().item() == pytest.approx(target, abs=0.01)
    masks = gated.hard_masks(target)
    assert gated.exact_sparsity(masks) == pytest.approx(target, abs=0.01)
    fewer = 1 - counted(slim(encoder, masks)) / counted(encoder)
    assert fewer == pytest.approx(target, abs=0.01)
