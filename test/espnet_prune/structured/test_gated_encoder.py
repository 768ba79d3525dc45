import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.structured import GatedEncoder, load_encoder, slim
from espnet_prune.structured.families.layers import ChannelNorm
from test.espnet_prune.tiny import LAYOUTS, batch, largest_difference, saved


@pytest.fixture(scope="module", params=LAYOUTS)
def encoder(request, tmp_path_factory):
    return load_encoder(saved(request.param, tmp_path_factory.mktemp("dense")))


@torch.no_grad()
def randomise(gated, seed=0, scale=4.0):
    generator = torch.Generator().manual_seed(seed)
    for alpha in gated.log_alphas().values():
        alpha.copy_(torch.randn(len(alpha), generator=generator) * scale)


def test_open_gates_change_nothing(encoder):
    gated = GatedEncoder(encoder)
    plan = gated.plan
    speech, lengths = batch()
    with torch.no_grad():
        whole = gated.masked_forward(
            {n: torch.ones(plan.size(n)) for n in plan.sites}, speech, lengths
        )
        assert largest_difference(whole, encoder(speech, lengths)) < 1e-4
    assert float(plan.parameters()) == sum(p.numel() for p in encoder.parameters())


def test_expected_cost_is_the_mean_of_exact_costs(encoder):
    """The closed form against Monte Carlo over independent masks (before consequences drawn)."""
    plan = encoder.plan()
    generator = torch.Generator().manual_seed(0)
    keep = {n: torch.rand(plan.size(n), generator=generator) for n in plan.sites}
    counts = {"parameters": [], "macs": []}
    for _ in range(300):
        masks = {n: (torch.rand(len(p), generator=generator) < p).float() for n, p in keep.items()}
        for kind, values in counts.items():
            values.append(float(plan.cost(kind, masks)))
    for kind, values in counts.items():
        values = torch.tensor(values, dtype=torch.double)
        error = 5 * float(values.std()) / len(values) ** 0.5
        assert float(values.mean()) == pytest.approx(float(plan.cost(kind, keep)), abs=error)


def test_every_gate_gets_gradients(encoder):
    gated = GatedEncoder(encoder, init=1.0).train()
    torch.manual_seed(0)
    out = gated(*batch())
    loss = sum(h.square().mean() for h in out.hidden_states) + 10 * gated.expected_sparsity()
    loss.backward()
    for name, alpha in gated.log_alphas().items():
        assert alpha.grad is not None and bool(alpha.grad.abs().sum() > 0), name


@settings(max_examples=20, deadline=None)
@given(st.floats(0.0, 0.85), st.integers(0, 5))
def test_hard_masks_hit_the_target(target, seed):
    gated = test_hard_masks_hit_the_target.gated
    randomise(gated, seed)
    masks = gated.hard_masks(target)
    assert all(set(m.tolist()) <= {0.0, 1.0} for m in masks.values())
    # one more unit is the finest step, and ties end at a head or the one channel that stays
    assert abs(gated.exact_sparsity(masks) - target) < 0.02


@pytest.fixture(autouse=True)
def _whisper(tmp_path):
    if getattr(test_hard_masks_hit_the_target, "gated", None) is None:
        test_hard_masks_hit_the_target.gated = GatedEncoder(
            load_encoder(saved("whisper", tmp_path)), protected=("mha", "ffn", "head")
        )


@pytest.mark.parametrize("alpha", [-2.0, -0.3, 0.1, 0.5, 2.0])
def test_a_coarse_gate_near_the_threshold_does_not_spoil_the_target(alpha, tmp_path):
    gated = GatedEncoder(load_encoder(saved("whisper", tmp_path, full_size=True)))
    randomise(gated, scale=1.0)
    with torch.no_grad():
        for name, value in gated.log_alphas().items():
            if gated.plan.sites[name].kind in ("mha", "ffn", "head"):
                value.fill_(3.0)
        gated.log_alphas()["layers.1.ffn"].fill_(alpha)
    assert gated.exact_sparsity(gated.hard_masks(0.5)) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("target", [None, 0.5, 0.8])
def test_rounded_sizes(target, tmp_path):
    """Multiples of 8, or all there is; the units with the largest log_alpha stay."""
    encoder = load_encoder(saved("whisper", tmp_path, full_size=True))
    gated = GatedEncoder(encoder, protected=("mha", "ffn", "head"), round_to=8)
    randomise(gated, scale=1.0)
    masks = gated.hard_masks(target)
    if target is not None:
        assert gated.exact_sparsity(masks) == pytest.approx(target, abs=0.005)
    for name, mask in masks.items():
        heads = 6 if gated.plan.sites[name].kind in ("qk", "vo") else 1
        alphas = gated.log_alphas()[name]
        for group, alpha in zip(mask.chunk(heads), alphas.chunk(heads), strict=True):
            kept = int(group.sum())
            assert kept > 0 and kept % 8 == 0
            assert set(group.nonzero().flatten().tolist()) == set(alpha.topk(kept)[1].tolist())
            if target is None:  # nearest to where the gates are half open
                assert abs(kept - int((alpha >= 0).sum())) <= 4


def test_rounding_keeps_small_sites_and_dead_ones(tmp_path):
    gated = GatedEncoder(load_encoder(saved("whisper", tmp_path)), round_to=8)
    with torch.no_grad():
        for name, alpha in gated.log_alphas().items():
            alpha.copy_(torch.arange(len(alpha)) - len(alpha) + 3.5)  # three are open
            if name == "layers.0.ffn_dim":
                alpha.sub_(10)
    masks = gated.hard_masks()
    assert masks["layers.0.ffn_dim"].sum() == 0 and masks["layers.1.ffn_dim"].sum() == 8
    # heads of 6 dimensions: the last one has some open, and then all
    assert masks["layers.1.self_attn.qk"].tolist() == [0.0] * 18 + [1.0] * 6


def test_all_gates_of_a_norm_closed():
    norm = ChannelNorm(6)
    norm.gate = torch.zeros(6, requires_grad=True)
    out = norm(torch.randn(2, 3, 6))
    out.sum().backward()
    assert bool(out.isfinite().all()) and bool(norm.weight.grad.isfinite().all())


def test_natural_threshold_is_half_open_gates(encoder):
    gated = GatedEncoder(encoder)
    randomise(gated)
    for name, mask in gated.hard_masks().items():
        alpha = gated.log_alphas()[name]
        if gated.plan.sites[name].at_least == 0 or (alpha >= 0).any():
            assert torch.equal(mask.bool(), alpha >= 0), name


def test_protected_sites(encoder):
    gated = GatedEncoder(encoder, protected=("head", "cnn"))
    kinds = {gated.plan.sites[name].kind for name in gated.log_alphas()}
    assert not kinds & {"head", "cnn"}
    with pytest.raises(ValueError, match="unknown site 'heads'.*a kind"):
        GatedEncoder(encoder, protected=("heads",))


def test_gates_of_a_slimmed_model(encoder):
    gated = GatedEncoder(encoder)
    randomise(gated)
    small = slim(encoder, gated.hard_masks())
    again = GatedEncoder(small)
    assert float(again.expected_sparsity()) == pytest.approx(0, abs=0.15)
    assert again.dense_cost == sum(p.numel() for p in small.parameters())
