import itertools

import numpy as np
import pytest
import torch

from espnet_prune.structured import load_encoder
from espnet_prune.structured.cost.block_times import (
    CHECKS,
    grid_points,
    keep,
    measure,
    random_sizes,
    trial_model,
    trials,
)
from test.espnet_prune.tiny import saved


@pytest.fixture(scope="module", params=["whisper", "wavlm-base", "hubert-large"])
def encoder(request, tmp_path_factory):
    return load_encoder(saved(request.param, tmp_path_factory.mktemp("dense")))


def test_sizes_that_are_tried():
    assert grid_points(512) == [1, 128, 256, 384, 512]
    assert grid_points(6) == [1, 3, 4, 6] and grid_points(1) == [1]
    assert grid_points(64, 2) == [1, 32, 64]


def test_every_block_meets_every_point(encoder):
    tried = trials(encoder.plan())
    for block in encoder.plan().declaration.blocks:
        met = {tuple(sizes[axis] for axis in block.axes) for sizes in tried}
        if block.kind == "attention":  # query-key and value-output sizes apart
            assert {(3, 1, 6), (3, 6, 1), (3, 3, 3)} <= met
        steps = [sorted({sizes[axis] for sizes in tried}) for axis in block.axes]
        assert met == set(itertools.product(*steps)) and len(steps[0]) >= 4


def test_trial_models_have_the_sizes_asked_for(encoder):
    plan = encoder.plan()
    generator = torch.Generator().manual_seed(0)
    heads = next(name for name, site in plan.sites.items() if site.kind == "head")
    attention = heads.removesuffix(".head")
    for sizes in [*trials(plan)[::6], random_sizes(plan, generator)]:
        kept = keep(plan, sizes, generator)
        small = trial_model(encoder, kept)
        module = small.backbone.get_submodule(attention)
        wanted = {axis.site: size for axis, size in sizes.items()}
        assert len(module.heads) == wanted[heads]
        for found, kind in ((module.qk_sizes, "qk"), (module.vo_sizes, "vo")):
            assert np.mean(found) == wanted[f"{attention}.{kind}"] and min(found) > 0
        speech = torch.randn(1, 16000)
        with torch.inference_mode():
            assert small(speech).last_hidden_state.shape[-1] == encoder.hidden_size
        # no memory of its own
        mine = {p.untyped_storage().data_ptr() for p in small.parameters()}
        assert mine <= {p.untyped_storage().data_ptr() for p in encoder.parameters()}


def test_a_table_of_this_machine(encoder, monkeypatch):
    """With a clock that counts its readings every block takes one tick."""
    from espnet_prune.structured.cost import block_times

    ticks = itertools.count()
    monkeypatch.setattr(block_times.time, "perf_counter", lambda: float(next(ticks)))
    found = measure(encoder, 1.0, 1)
    plan, table = encoder.plan(), found.table
    blocks = plan.declaration.blocks
    # The whole pass reads the clock twice, and each block twice: 2 b + 1 ticks, b of them inside
    assert len(found.measured) == 1 + len(trials(plan)) + CHECKS
    assert found.measured[0] == 2 * len(blocks) + 1 and table.rest == len(blocks) + 1
    assert float(plan.cost(table)) == found.measured[0] == found.predicted[0]
    for block in blocks:
        grid = table.grids[block.kind]
        assert set(grid.seconds.flatten().tolist()) <= {0.0, 1.0}
        empty = block.axes[0].site.endswith((".head", ".ffn_dim", ".pos_conv"))
        assert (grid.axes[0][0] == 0) is empty
        assert grid.axes[0][-1] == plan.sites[block.axes[0].site].size
