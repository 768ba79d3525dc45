import copy

import pytest
import torch

from espnet_prune.structured import load_encoder
from espnet_prune.structured.one_shot import turned
from espnet_prune.structured.one_shot.elimination import refit, regular
from espnet_prune.structured.one_shot.options import Option, _hull, options
from espnet_prune.structured.one_shot.statistics import query_key_errors, random_probe
from test.espnet_prune.structured.one_shot.test_one_shot import speech
from test.espnet_prune.tiny import saved


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A tiny Whisper with turned heads, its plan, statistics and query-key errors."""
    encoder = load_encoder(saved("whisper", tmp_path_factory.mktemp("dense")))
    plan, probe = encoder.plan(), random_probe(0)
    encoder, found = turned(encoder, plan, speech(), probe)
    return encoder, plan, found, query_key_errors(encoder, found, speech(2))


@pytest.mark.parametrize("layout", ["equal", "stock"])
@pytest.mark.parametrize("cost", ["parameters", "macs"])
def test_each_form_saves_and_errs_as_it_says(known, layout, cost):
    _, plan, found, measured = known
    for name, heads in found.heads.items():
        chain = options(plan, heads, measured[name], layout, cost)
        assert chain[0].saved == 0 and chain[0].error == pytest.approx(0, abs=1e-9)
        assert len(chain) > 2
        weight = heads.reader.weigh()
        gram = regular(heads.reader.gram, 24)
        for form in chain:
            assert float(plan.cost(cost)) - form.saved == float(plan.cost(cost, form.masks))
            values = form.masks[f"{name}.vo"]
            kept = values.nonzero().squeeze(1)
            fitted = torch.zeros_like(weight)
            rows = torch.cat([kept, torch.arange(len(values), len(weight))])
            fitted[rows] = refit(heads.reader.gram, weight, kept, len(values))
            lost = float(((fitted - weight) * (gram @ (fitted - weight))).sum())
            queries = form.masks[f"{name}.qk"].view(4, 6).sum(1).int().tolist()
            alive = values.view(4, 6).sum(1) > 0
            for head in alive.nonzero().squeeze(1).tolist():
                curve = measured[name][head]
                below, above = (
                    max(n for n in curve if n <= queries[head]),
                    min(n for n in curve if n >= queries[head]),
                )
                share = (queries[head] - below) / max(above - below, 1)
                lost += curve[below] + share * (curve[above] - curve[below])
            assert form.error == pytest.approx(lost, rel=1e-3, abs=1e-6 * chain[-1].error)


@pytest.mark.parametrize("layout", ["equal", "stock"])
@pytest.mark.parametrize("cost", ["parameters", "macs"])
def test_prices_find_the_forms_that_counting_finds(known, layout, cost):
    _, plan, found, measured = known
    for name, heads in found.heads.items():
        chain = options(plan, heads, measured[name], layout, cost)
        slow = options(plan, heads, measured[name], layout, lambda p, units: p.cost(cost, units))
        assert len(chain) == len(slow)
        for a, b in zip(chain, slow, strict=True):
            assert (a.saved, a.error) == (b.saved, b.error)
            assert all(torch.equal(mask, b.masks[site]) for site, mask in a.masks.items())


def test_slopes_rise(known):
    _, plan, found, measured = known
    for name, heads in found.heads.items():
        chain = options(plan, heads, measured[name], "equal", "parameters")
        slopes = [
            (b.error - a.error) / (b.saved - a.saved)
            for a, b in zip(chain, chain[1:], strict=False)
        ]
        assert slopes == sorted(slopes)


def test_hull():
    points = [(0, 0.0), (1, 2.0), (2, 2.0), (3, 9.0), (4, 5.0), (2, 1.0)]
    hull = _hull([Option(saved, error, {}) for saved, error in points])
    assert [(each.saved, each.error) for each in hull] == [(0, 0.0), (2, 1.0), (4, 5.0)]


def test_what_is_protected_stays(known):
    encoder, _, found, measured = known
    plan = encoder.plan(protected=["head", "qk"])
    name = "layers.0.self_attn"
    heads = copy.copy(found.heads[name])
    for form in options(plan, heads, measured[name], "equal", "parameters"):
        assert set(form.masks) <= {f"{name}.vo", f"{name}.mha"}
