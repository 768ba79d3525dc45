"""What ESPnet's `use_amp` does, autocast and loss scaling, here on a CPU."""

import argparse

import pytest
import torch

from espnet_prune.plugin.tasks.ssl_prune import SSLPruneTask
from test.espnet_prune.tiny import batch, saved


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return saved("wavlm-base", tmp_path_factory.mktemp("teacher"))


def build(teacher):
    args = argparse.Namespace(
        teacher=str(teacher),
        student=None,
        pruning_conf={"target": 0.5, "ramp_updates": 0, "init": 1.0},
        model_conf={},
        seed=0,
        optim="adamw",
        optim_conf={"lr": 1e-3},
    )
    model = SSLPruneTask.build_model(args)
    return model.train(), SSLPruneTask.build_optimizers(args, model)[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_in_low_precision(teacher, dtype):
    stats = []
    for enabled in (False, True):
        model, _ = build(teacher)
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype, enabled=enabled):
            loss, values, _ = model(*batch())
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert loss.dtype == torch.float32 and all(g.isfinite().all() for g in gradients)
        stats.append({name: float(value) for name, value in values.items()})
    full, low = stats
    # Only the networks run in low precision, not what controls sparsity
    for name in ("sparsity_expected", "sparsity_exact", "lagrangian"):
        assert low[name] == full[name]
    assert low["distill"] != full["distill"]
    assert low["distill"] == pytest.approx(full["distill"], rel=0.02)


def test_an_update_that_loss_scaling_skips_is_not_counted(teacher):
    model, optimizer = build(teacher)
    scaler = torch.amp.GradScaler("cpu")
    counts = []
    for overflow in (False, True, False):
        loss = model(*batch())[0]
        scaler.scale(loss).backward()
        if overflow:
            next(model.student.gates.parameters()).grad.fill_(float("inf"))
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        counts.append(int(model.updates))
    assert counts == [1, 1, 2]
    assert all(p.isfinite().all() for p in model.parameters())
