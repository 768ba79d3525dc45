import dataclasses
import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.structured import GatedEncoder, LatencyTable, load_encoder, slim
from espnet_prune.structured.cost.latency import Grid, interpolate, monotone
from test.espnet_prune.gate_training import train_gates
from test.espnet_prune.latency_tables import REST, by_hand, synthetic, table_file
from test.espnet_prune.tiny import LAYOUTS, random_masks, saved


@pytest.fixture(scope="module", params=["whisper", "wavlm-base", "hubert-large"])
def encoder(request, tmp_path_factory):
    return load_encoder(saved(request.param, tmp_path_factory.mktemp("dense")))


times = st.floats(0.0, 10.0, width=32)
grids = st.integers(1, 4).flatmap(
    lambda n: st.integers(1, 4).flatmap(
        lambda m: st.lists(times, min_size=n * m, max_size=n * m).map(
            lambda v: torch.tensor(v, dtype=torch.double).view(n, m)
        )
    )
)


def axis_of(length: int) -> list[float]:
    return [0.0, 1.0, 3.0, 7.5][:length]


@settings(max_examples=60, deadline=None)
@given(grids)
def test_a_table_is_exact_on_its_grid(values):
    axes = [axis_of(n) for n in values.shape]
    for i, j in itertools.product(*map(range, values.shape)):
        at = [torch.tensor(axes[0][i]).double(), torch.tensor(axes[1][j]).double()]
        assert interpolate(axes, values, at) == values[i, j]


@settings(max_examples=60, deadline=None)
@given(grids, *[st.floats(-1.0, 9.0)] * 4)
def test_more_units_never_take_less_time(values, a, b, c, d):
    axes, values = [axis_of(n) for n in values.shape], monotone(values)
    low = [torch.tensor(min(a, b)).double(), torch.tensor(min(c, d)).double()]
    high = [torch.tensor(max(a, b)).double(), torch.tensor(max(c, d)).double()]
    assert interpolate(axes, values, low) <= interpolate(axes, values, high) + 1e-9


@settings(max_examples=60, deadline=None)
@given(grids)
def test_monotone_changes_as_little_as_can_be(values):
    """Of two entries in the wrong order one has to move by half of their distance at least."""
    places = list(itertools.product(*map(range, values.shape)))
    wrong = [
        float(values[p] - values[q])
        for p, q in itertools.product(places, places)
        if p[0] <= q[0] and p[1] <= q[1]
    ]
    found = monotone(values)
    assert float((found - values).abs().max()) == pytest.approx(max(wrong) / 2, abs=1e-9)
    assert bool((found.diff(dim=0) >= 0).all()) and bool((found.diff(dim=1) >= 0).all())


def seconds_by_hand(small) -> float:
    """The synthetic table's time of a slimmed model, read off its modules."""
    backbone, total = small.backbone, REST
    if small.family == "whisper":
        total += by_hand("cnn", backbone.conv1.weight.shape[0])
        attentions = [layer.self_attn for layer in backbone.layers]
        hidden = [getattr(layer.fc1, "out_features", 0) for layer in backbone.layers]
    else:
        for n, layer in enumerate(backbone.feature_extractor.conv_layers):
            out, channels, _ = layer.conv.weight.shape
            total += by_hand(f"cnn.{n}", *((channels, out) if n else (out,)))
        total += by_hand("projection", backbone.feature_projection.projection.in_features)
        total += by_hand("pos_conv", len(backbone.encoder.pos_conv_embed.kept))
        layers = backbone.encoder.layers
        attentions = [layer.attention for layer in layers]
        dense = [getattr(layer.feed_forward, "intermediate_dense", None) for layer in layers]
        hidden = [0 if d is None else d.out_features for d in dense]
    for attention in attentions:
        if attention.present and attention.heads:
            heads = len(attention.heads)
            sizes = (sum(each) / heads for each in (attention.qk_sizes, attention.vo_sizes))
            total += by_hand("attention", heads, *sizes)
    return total + sum(by_hand("feed_forward", size) for size in hidden)


def test_hard_masks_are_looked_up(encoder):
    table = synthetic(encoder.plan())
    gated = GatedEncoder(encoder, cost=table)
    assert gated.dense_cost == pytest.approx(seconds_by_hand(encoder), rel=1e-9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        masks = random_masks(gated.plan, generator)
        small = slim(encoder, masks)
        wanted = seconds_by_hand(small)
        assert float(small.plan().cost(table)) == pytest.approx(wanted, rel=1e-6)
        removed = 1 - wanted / gated.dense_cost
        assert gated.exact_sparsity(masks) == pytest.approx(removed, abs=1e-6)


def test_heads_that_are_padded(encoder):
    """Where time follows the larger of both sizes, unequal ones are no better than they are."""
    plan = encoder.plan()
    table = synthetic(plan)
    grid = table.grids["attention"]
    seconds = torch.tensor(
        [h * max(qk, vo) for h, qk, vo in itertools.product(*grid.axes)], dtype=torch.double
    )
    padded = Grid(grid.axes, seconds.view(grid.seconds.shape))
    table = dataclasses.replace(table, grids={**table.grids, "attention": padded})

    def time_of(qk: int, vo: int) -> float:
        masks = {}
        for name, site in plan.sites.items():
            if site.kind in ("qk", "vo"):
                first = torch.arange(6) < (qk if site.kind == "qk" else vo)
                masks[name] = first.float().repeat(4)
        return float(plan.cost(table, plan.canonical(masks)))

    layers = sum(block.kind == "attention" for block in plan.declaration.blocks)
    # 4 heads: 1 and 6 dimensions take as long as 6 and 6, not as 3 and 3
    assert time_of(1, 6) == time_of(6, 1) == pytest.approx(time_of(6, 6))
    assert time_of(6, 6) - time_of(3, 3) == pytest.approx(layers * 4 * 3)


def test_every_gate_saves_time_when_it_closes(encoder):
    gated = GatedEncoder(encoder, cost=synthetic(encoder.plan()), init=1.0)
    gated.expected_sparsity().backward()
    for name, alpha in gated.log_alphas().items():
        assert bool((alpha.grad < 0).all()), name


def test_closed_gates_have_finite_gradients(encoder):
    gated = GatedEncoder(encoder, cost=synthetic(encoder.plan()), init=-60.0)
    gated.expected_sparsity().backward()
    assert all(bool(alpha.grad.isfinite().all()) for alpha in gated.log_alphas().values())


def test_a_target_in_latency_is_reached(tmp_path):
    encoder = load_encoder(saved("wavlm-base", tmp_path))
    gated = GatedEncoder(encoder, cost=synthetic(encoder.plan()))
    target = 0.45
    train_gates(gated, target, updates=150, ramp=75)
    assert gated.expected_sparsity().item() == pytest.approx(target, abs=0.01)
    masks = gated.hard_masks(target)
    small = slim(encoder, masks)
    removed = 1 - seconds_by_hand(small) / seconds_by_hand(encoder)
    assert removed == pytest.approx(target, abs=0.015)  # units of a tiny model are coarse


def test_blocks_do_not_overlap_and_have_all_prunable_weights(tmp_path):
    """Every parameter that a site cuts and that is multiplied lies inside exactly one block."""
    for layout in LAYOUTS:
        encoder = load_encoder(saved(layout, tmp_path / layout))
        declaration = encoder.plan().declaration
        inside = [set(block.modules) for block in declaration.blocks]
        for modules in inside:  # Whisper's fc1 runs between the norm and fc2
            modules |= {name.replace("fc2", "fc1") for name in modules}
        for tensor in declaration.tensors.values():
            if tensor.cuts and tensor.rate:
                owners = [b for b in inside if any(tensor.name.startswith(f"{m}.") for m in b)]
                assert len(owners) == 1, tensor.name


def test_a_file_gives_the_same_costs(tmp_path):
    plan = load_encoder(saved("whisper", tmp_path / "m")).plan()
    read = LatencyTable.load(table_file(plan, tmp_path / "table.json"))
    assert float(plan.cost(read)) == float(plan.cost(synthetic(plan)))


def test_errors(tmp_path):
    plan = load_encoder(saved("whisper", tmp_path / "whisper")).plan()
    path = tmp_path / "table.json"
    with pytest.raises(
        FileNotFoundError,
        match="table.json: no such file; make it with espnet-prune encoder latency",
    ):
        LatencyTable.load(path)
    good = synthetic(plan).to_json()
    longer = {**good["grids"]["cnn"], "axes": [[1, 2, 3, 4, 5, 6]]}
    for damaged in (
        "{",
        "[]",
        json.dumps({**good, "rest_seconds": -1}),
        json.dumps({**good, "grids": {"cnn": longer}}),
        json.dumps({k: v for k, v in good.items() if k != "fingerprint"}),
    ):
        path.write_text(damaged)
        with pytest.raises(ValueError, match="table.json: damaged, or not a latency table"):
            LatencyTable.load(path)
    path.write_text(json.dumps({**good, "grids": {"cnn": good["grids"]["cnn"]}}))
    with pytest.raises(ValueError, match="table.json: damaged or old, it lacks times of 'atte"):
        plan.cost(LatencyTable.load(path))
    other = load_encoder(saved("wavlm-base", tmp_path / "wavlm"))
    with pytest.raises(ValueError, match="is for a synthetic model, and this model has other"):
        GatedEncoder(other, cost=synthetic(plan))
