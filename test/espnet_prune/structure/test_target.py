"""Gates and multipliers alone, at full size: a target in MACs is reached, counted by torch."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import WavLMConfig

from espnet_prune.gates import Lagrangian, ramped_target
from espnet_prune.structure import GatedEncoder, SpeechEncoder, SpeechEncoderConfig, slim

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
    lagrangian, target = Lagrangian(), 0.65
    generator = torch.Generator().manual_seed(0)
    # What the units are worth to a task, which pulls the gates apart
    worth = {n: torch.rand(len(a), generator=generator) for n, a in gated.log_alphas().items()}
    optimizer = torch.optim.AdamW(
        [
            {"params": list(gated.gates.parameters())},
            {"params": list(lagrangian.parameters()), "maximize": True},
        ],
        lr=0.1,
        weight_decay=0.0,
    )
    for update in range(UPDATES):
        probabilities = gated._per_site(lambda gate: gate.prob_nonzero())
        loss = -sum((worth[n] * p).mean() for n, p in probabilities.items()) / len(worth)
        expected = gated.expected_sparsity()
        loss = loss + lagrangian(expected, ramped_target(target, update, 100))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert gated.expected_sparsity().item() == pytest.approx(target, abs=0.01)
    masks = gated.hard_masks(target)
    assert gated.exact_sparsity(masks) == pytest.approx(target, abs=0.01)
    fewer = 1 - counted(slim(encoder, masks)) / counted(encoder)
    assert fewer == pytest.approx(target, abs=0.01)
