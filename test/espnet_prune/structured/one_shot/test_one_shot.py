import copy

import pytest
import torch

from espnet_prune.structured import load_encoder, slim
from espnet_prune.structured.families.layers import PrunableAttention
from espnet_prune.structured.one_shot import prune_one_shot, turned
from espnet_prune.structured.one_shot.statistics import gather, random_probe
from test.espnet_prune.tiny import LAYOUTS, saved


def speech(count: int = 4, samples: int = 8000) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(samples + 320 * i, generator=generator) for i in range(count)]


@pytest.fixture(scope="module", params=LAYOUTS)
def encoder(request, tmp_path_factory):
    return load_encoder(saved(request.param, tmp_path_factory.mktemp("dense")))


def states(encoder, waveform):
    with torch.no_grad():
        return encoder.eval()(waveform[None], torch.tensor([len(waveform)])).last_hidden_state


def same(a, b) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_turned_heads_compute_the_same(encoder):
    new, found = turned(encoder, encoder.plan(), speech(2), random_probe(0))
    for waveform in speech():
        torch.testing.assert_close(
            states(new, waveform), states(encoder, waveform), atol=2e-4, rtol=2e-3
        )
    assert any(
        not torch.equal(a, b) for a, b in zip(new.parameters(), encoder.parameters(), strict=True)
    )
    # what was found is of the new encoder, although only the old one was listened to
    again = gather(new, encoder.plan(), speech(2), random_probe(0))
    for site, reader in again.readers.items():
        gram, scale = found.readers[site].gram, float(reader.gram.abs().max())
        torch.testing.assert_close(gram, reader.gram, atol=1e-4 * scale, rtol=1e-3)
        weights = found.readers[site].weight(), reader.weight()
        torch.testing.assert_close(*weights, atol=0, rtol=0)


@pytest.mark.parametrize("cost", ["parameters", "macs"])
@pytest.mark.parametrize("target", [0.0, 0.2, 0.4])
def test_target_is_met_and_errors_are_below_those_of_plain_masks(encoder, target, cost):
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    small, summary = prune_one_shot(encoder, speech(), target, cost)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    exact = 1 - float(small.plan().cost(cost)) / float(encoder.plan().cost(cost))
    assert exact == pytest.approx(summary["exact"]) == pytest.approx(target, abs=0.03)
    kept = small.kept
    masks = {
        name: torch.zeros(site.size).index_fill(0, torch.tensor(kept[name]).long(), 1.0)
        for name, site in encoder.plan().sites.items()
        if name in kept
    }
    masked = slim(turned(encoder, encoder.plan(), speech(), random_probe(0))[0], masks)
    plain, again = prune_one_shot(encoder, speech(), target, cost, compensate=False)
    assert again == summary and plain.kept == kept and same(plain, masked)
    errors = [
        sum(float((states(each, w) - states(encoder, w)).square().sum()) for w in speech())
        for each in (small, plain)
    ]
    assert errors[0] <= errors[1] + 1e-6


def test_same_again_and_pruned_twice(encoder, tmp_path):
    first, _ = prune_one_shot(encoder, speech(), 0.2)
    again, _ = prune_one_shot(encoder, speech(), 0.2)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    twice, summary = prune_one_shot(first, speech(), 0.2)
    assert twice.num_parameters() < first.num_parameters()
    twice.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    assert torch.equal(states(loaded, speech()[0]), states(twice, speech()[0]))
    assert summary["exact"] == pytest.approx(0.2, abs=0.03)


def test_heads_go_whole_where_their_dimensions_are_protected(encoder):
    protected = sorted(encoder.plan().kinds - {"head", "mha"})
    small, _ = prune_one_shot(encoder, speech(), 0.05, protected=protected)
    sites = encoder.plan().sites
    gone = 0
    for name, site in sites.items():
        if site.kind == "head":
            kept = small.kept.get(name, range(site.size))
            gone += site.size - len(kept)
            for role in ("qk", "vo"):
                dims = name.removesuffix("head") + role
                size = sites[dims].size // site.size
                whole = [h * size + i for h in kept for i in range(size)]
                assert list(small.kept.get(dims, range(sites[dims].size))) == whole
    assert gone


def test_protected_sites_stay_whole(encoder):
    small, _ = prune_one_shot(encoder, speech(), 0.2, protected=["qk", "vo", "head", "mha"])
    assert small.kept and all(name.endswith(("ffn_dim", "cnn", "pos_conv")) for name in small.kept)


@pytest.mark.parametrize("layout", ["equal", "stock"])
@pytest.mark.parametrize("target", [0.2, 0.4])
def test_layouts(encoder, layout, target, monkeypatch):
    small, summary = prune_one_shot(encoder, speech(), target, layout=layout)
    assert summary["exact"] == pytest.approx(target, abs=0.03)
    found = [m for m in small.backbone.modules() if isinstance(m, PrunableAttention)]
    assert len(found) == 3
    for module in found:
        assert len(set(module.qk_sizes)) <= 1 and len(set(module.vo_sizes)) <= 1
        if layout == "stock":
            assert len(module.heads) == 4 and module.qk_sizes == module.vo_sizes
            assert module.qk_sizes[0] > 0
    if layout == "stock":
        assert not any(name.endswith(("pos_conv", ".ffn", ".mha", ".head")) for name in small.kept)
    calls = []
    attend = PrunableAttention._products
    monkeypatch.setattr(
        PrunableAttention, "_products", lambda *a: calls.append(a[1].shape[1]) or attend(*a)
    )
    states(small, speech()[0])
    assert calls == [len(module.heads) for module in found if module.heads]  # one call a layer
    free, _ = prune_one_shot(encoder, speech(), target)
    if max(map(len, ({*m.qk_sizes} for m in free.backbone.modules() if hasattr(m, "heads")))) > 1:
        with pytest.raises(ValueError, match="different sizes already"):
            prune_one_shot(free, speech(), 0.1, layout=layout)


def test_a_model_whose_first_parameter_nothing_reads(encoder):
    encoder = copy.deepcopy(encoder)
    unread = torch.nn.Parameter(torch.ones(3))
    encoder._parameters = {"unread": unread, **encoder._parameters}
    assert next(encoder.parameters()) is unread
    found = gather(encoder, encoder.plan(), speech(), random_probe(0))
    assert all(float(each.sensitivity.sum()) > 0 for each in found.readers.values())


def test_what_cannot_be_done(encoder):
    with pytest.raises(ValueError, match="layout is 'even', choose from free, equal, stock"):
        prune_one_shot(encoder, speech(), 0.2, layout="even")

    with pytest.raises(ValueError, match="no waveforms"):
        prune_one_shot(encoder, [], 0.2)
    with pytest.raises(ValueError, match=r"1.5, but has to be in \[0, 1\)"):
        prune_one_shot(encoder, speech(), 1.5)
    with pytest.raises(ValueError, match="target 0.9 cannot be reached"):
        prune_one_shot(encoder, speech(), 0.9, protected=["ffn_dim", "cnn"])
    broken = copy.deepcopy(encoder)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="waveform 0 of the calibration: .* NaN"):
        prune_one_shot(broken, speech(), 0.2)
