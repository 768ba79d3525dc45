"""ESPnet's own encoders: equal to what they were, exact when slimmed, safe to load."""

import copy

import pytest
import torch

from espnet_prune.plugin.espnet_encoder import EspnetEncoder, PrunedEncoder, Structure
from espnet_prune.structured import GatedEncoder
from espnet_prune.structured.families.layers import PrunableAttention
from espnet_prune.structured.one_shot import prune_one_shot, turned
from espnet_prune.structured.one_shot.statistics import random_probe
from espnet_prune.structured.slim import slim
from test.espnet_prune.espnet_encoders import INPUT_SIZE, LAYOUTS, batch, dense, prunable, structure
from test.espnet_prune.tiny import random_masks

DRAWS = 24


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def largest(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max())


@torch.no_grad()
def compare(encoder, masks):
    """The slimmed copy, and its largest difference from the masked encoder."""
    features, lengths = batch()
    gated = GatedEncoder(encoder).eval()
    masked = gated.masked_forward(encoder.plan().canonical(masks), features, lengths)
    small = slim(encoder, masks).eval()
    found = small(features, lengths)
    assert torch.equal(masked.lengths, found.lengths)
    return small, largest(masked.last_hidden_state, found.last_hidden_state)


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_computes_what_espnet_computes(layout):
    features, lengths = batch()
    wanted, frames, _ = dense(layout)(features, lengths)
    found = prunable(layout)(features, lengths)
    assert largest(found.last_hidden_state, wanted) < 1e-5
    assert torch.equal(found.lengths, frames)


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_random_masks(layout):
    encoder = prunable(layout)
    plan, generator = encoder.plan(), torch.Generator().manual_seed(0)
    for draw in range(DRAWS):
        masks = random_masks(plan, generator)
        small, difference = compare(encoder, masks)
        assert difference < 1e-5, f"draw {draw}"
        assert count(small) == int(plan.parameters(plan.canonical(masks)))
        assert count(small) == int(small.plan().parameters())
        smaller, difference = compare(small, random_masks(small.plan(), generator))
        assert difference < 1e-5, f"draw {draw}, once more"
        if draw % 8:
            continue
        # through ESPnet's constructor, as from config.yaml and a .pth
        loaded = PrunedEncoder(INPUT_SIZE, **smaller.structure.conf()).eval()
        loaded.load_state_dict(smaller.backbone.state_dict())
        assert largest(loaded(*batch())[0], smaller(*batch()).last_hidden_state) < 1e-6


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["mha", "head", "qk", "vo", "ffn", "conv_dim", "cgmlp_dim", ""])
def test_whole_sites_go(layout, kind):
    encoder = prunable(layout)
    plan = encoder.plan()
    sites = [name for name, site in plan.sites.items() if not kind or site.kind == kind]
    small, difference = compare(encoder, {name: torch.zeros(plan.size(name)) for name in sites})
    assert difference < 1e-5
    assert count(small) < count(encoder) or not sites
    smaller, _ = compare(small, random_masks(small.plan(), torch.Generator().manual_seed(0)))
    assert count(smaller) <= count(small)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_shot(layout):
    encoder = prunable(layout)
    generator = torch.Generator().manual_seed(2)
    features = [torch.randn(150, INPUT_SIZE, generator=generator) for _ in range(4)]

    @torch.no_grad()
    def error(other: EspnetEncoder) -> float:
        outputs = [[m(x[None], torch.tensor([len(x)])) for x in features] for m in (encoder, other)]
        pairs = zip(*outputs, strict=True)
        return sum(float((a[0] - b[0]).square().mean()) for a, b in pairs)

    assert error(turned(encoder, encoder.plan(), features, random_probe(0))[0]) < 1e-8
    small, summary = prune_one_shot(encoder, features, 0.25)
    assert summary["exact"] == pytest.approx(0.25, abs=0.01)
    # What the rest makes up for is worth something: the same units without it
    plan = encoder.plan()
    kept = {n: set(small.kept.get(n, range(s.size))) for n, s in plan.sites.items()}
    masks = {
        n: torch.tensor([float(u in kept[n]) for u in range(s.size)]) for n, s in plan.sites.items()
    }
    assert error(small) < error(slim(encoder, masks).eval())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_heads_of_one_size(layout):
    encoder = prunable(layout)
    features = [torch.randn(60 + 4 * n, INPUT_SIZE) for n in range(3)]
    small, summary = prune_one_shot(encoder, features, 0.25, layout="equal")
    assert summary["exact"] == pytest.approx(0.25, abs=0.03)
    for module in small.backbone.modules():
        if isinstance(module, PrunableAttention):
            assert len(set(module.qk_sizes)) <= 1 and len(set(module.vo_sizes)) <= 1


def test_trains(layout="conformer"):
    plan = prunable(layout).plan()
    small = slim(prunable(layout), random_masks(plan, torch.Generator().manual_seed(3)))
    encoder = PrunedEncoder(INPUT_SIZE, **small.structure.conf()).train()
    encoder(*batch())[0].square().sum().backward()
    lacking = [n for n, p in encoder.named_parameters() if p.numel() and p.grad is None]
    assert not lacking
    copy.deepcopy(encoder)


def test_checkpoint_of_another_structure_is_refused():
    """ESPnet loads with strict=False and goes on."""
    encoder = PrunedEncoder(INPUT_SIZE, **structure("conformer").conf())
    with pytest.raises(ValueError, match="encoder pruned: the checkpoint lacks tensors after_norm"):
        encoder.load_state_dict({}, strict=False)
    state = encoder.state_dict()
    state["after_norm.weight"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"after_norm.weight \(3,\) instead of \(16,\)"):
        encoder.load_state_dict(state, strict=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": "rnn"}, "base: 'rnn', choose from transformer, conformer, branchformer"),
        ({"base_conf": {"qk_norm": True}}, "encoder conformer: qk_norm: true, which"),
        ({"kept": {"encoders.9.self_attn.mha": ""}}, "has no site encoders.9.self_attn.mha"),
        ({"kept": {"encoders.0.conv_module.conv": "0-3"}}, "only the units 0 to 0"),
    ],
)
def test_structure_that_cannot_be(change, message):
    conf = {**Structure(INPUT_SIZE, "conformer", {"selfattention_layer_type": "selfattn"}).conf()}
    conf["base_conf"] |= {"pos_enc_layer_type": "abs_pos", "rel_pos_type": "latest"}
    for key, value in change.items():
        conf[key] = {**conf[key], **value} if key == "base_conf" else value
    with pytest.raises(ValueError, match="encoder ") as error:
        PrunedEncoder(INPUT_SIZE, **conf)
    assert message in str(error.value)
