"""A model under hard masks and its slimmed copy agree on every hidden state."""

import pytest
import torch
from safetensors import safe_open

from espnet_prune.structured import GatedEncoder, load_encoder, slim
from test.espnet_prune.tiny import LAYOUTS, batch, largest_difference, random_masks, saved

DRAWS = 100


@torch.no_grad()
def compare(encoder, masks, speech, lengths):
    """The slimmed copy and its largest difference from the masked model."""
    masked = GatedEncoder(encoder).masked_forward(encoder.plan().canonical(masks), speech, lengths)
    small = slim(encoder, masks).eval()
    return small, largest_difference(masked, small(speech, lengths))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_random_masks(layout, tmp_path):
    encoder = load_encoder(saved(layout, tmp_path))
    plan, generator = encoder.plan(), torch.Generator().manual_seed(0)
    speech, lengths = batch()
    for draw in range(DRAWS):
        masks = random_masks(plan, generator)
        small, difference = compare(encoder, masks, speech, lengths)
        assert difference < 1e-4, f"draw {draw}"
        count = sum(p.numel() for p in small.parameters())
        assert (
            count == int(plan.parameters(plan.canonical(masks))) == int(small.plan().parameters())
        )
        macs = float(plan.macs(plan.canonical(masks)))
        assert float(small.plan().macs()) == pytest.approx(macs)
        if draw % 25 == 0:  # once more, and through a file
            again = random_masks(small.plan(), generator)
            smaller, difference = compare(small, again, speech, lengths)
            assert difference < 1e-4
            smaller.save_pretrained(tmp_path / "small")
            with safe_open(tmp_path / "small" / "model.safetensors", "pt") as file:
                stored = sum(file.get_tensor(key).numel() for key in file.keys())
            assert stored == int(smaller.plan().parameters())
            loaded = load_encoder(tmp_path / "small").eval()
            for (name, a), b in zip(
                smaller.state_dict().items(), loaded.state_dict().values(), strict=True
            ):
                assert torch.equal(a, b), name
            with torch.no_grad():
                a, b = smaller(speech, lengths), loaded(speech, lengths)
            assert largest_difference(a, b) < 1e-5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", ["first layer", "all", "heads", "value", "query", "ffn", "uneven"])
def test_special_masks(layout, case, tmp_path):
    encoder = load_encoder(saved(layout, tmp_path))
    plan = encoder.plan()
    masks = {name: torch.ones(plan.size(name)) for name in plan.sites}
    by_kind = {}
    for name, site in plan.sites.items():
        by_kind.setdefault(site.kind, []).append(name)
    if case == "first layer":  # in WavLM it owns the position bias
        masks[by_kind["mha"][0]][:] = masks[by_kind["ffn"][0]][:] = 0
    elif case == "all":
        for name in plan.sites:
            masks[name][:] = 0
    elif case == "heads":
        masks[by_kind["head"][1]][:] = 0
        masks[by_kind["head"][2]][::2] = 0
    elif case == "value":  # a head dies with its last value dimension
        masks[by_kind["vo"][0]][:6] = 0
    elif case == "query":  # uniform attention
        masks[by_kind["qk"][0]][6:12] = 0
        masks[by_kind["qk"][2]][:] = 0
    elif case == "ffn":
        masks[by_kind["ffn_dim"][0]][:] = 0
    else:
        masks[by_kind["qk"][1]][[0, 1, 7, 13, 14, 15]] = 0
        masks[by_kind["vo"][1]][[2, 8, 9, 10]] = 0
    speech, lengths = batch()
    small, difference = compare(encoder, masks, speech, lengths)
    assert difference < 1e-4
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in encoder.parameters())
    if case == "value":
        assert not set(range(6)) & set(small.kept[by_kind["qk"][0]]), "its query-key part stays"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_full_size(layout, tmp_path):
    encoder = load_encoder(saved(layout, tmp_path, full_size=True))
    masks = random_masks(encoder.plan(), torch.Generator().manual_seed(1))
    small, difference = compare(encoder, masks, *batch(1.0))
    assert difference < 1e-4
    assert sum(p.numel() for p in small.parameters()) == int(small.plan().parameters())


def test_inference_computes_on_the_small_shapes(tmp_path):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    encoder = load_encoder(saved("whisper", tmp_path, full_size=True))
    gated = GatedEncoder(encoder, protected=("mha", "ffn", "head"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for alpha in gated.log_alphas().values():
            alpha.copy_(torch.rand(len(alpha), generator=generator))
    small = slim(encoder, gated.hard_masks(0.5)).eval()
    speech, lengths = torch.randn(1, 480000), torch.tensor([480000])
    for model in (encoder, small):
        # The counter knows no fused attention on CPUs.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            with FlopCounterMode(display=False) as counter:
                model(speech, lengths)
        counted = counter.get_total_flops() / 2 / 30
        # The counter sees the mel filters; unequal Q, K and V are filled up for the fused kernel.
        assert counted == pytest.approx(float(model.plan(30.0).macs()), rel=0.05)


def test_wrong_masks(tmp_path):
    encoder = load_encoder(saved("whisper", tmp_path))
    with pytest.raises(ValueError, match="unknown site 'nowhere'"):
        slim(encoder, {"nowhere": torch.ones(1)})
    with pytest.raises(ValueError, match="20 values of 0 and 1"):
        slim(encoder, {"layers.0.ffn_dim": torch.full((20,), 0.5)})
