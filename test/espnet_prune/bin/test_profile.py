import json

import pytest

from espnet_prune.bin import profile
from espnet_prune.structured import load_encoder, slim
from test.espnet_prune.tiny import saved


@pytest.fixture
def models(tmp_path):
    dense = saved("wavlm-base", tmp_path / "dense")
    encoder = load_encoder(dense)
    masks = {"encoder.layers.0.ffn": [0.0]}
    import torch

    plan = encoder.plan()
    ones = {name: torch.ones(plan.size(name)) for name in plan.prunable()}
    ones |= {name: torch.tensor(value) for name, value in masks.items()}
    slim(encoder, ones).save_pretrained(tmp_path / "pruned")
    return str(dense), str(tmp_path / "pruned")


def test_table_and_json(models, tmp_path, capsys):
    args = [*models, "--seconds", "1", "--repeats", "2", "--threads", "1", "--depth", "4"]
    profile.main([*args, "--output", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert "1 s of audio, batch 1, float32, cpu, 1 threads" in printed
    assert "backbone.encoder.layers.0" in printed and "1.00x" in printed
    found = json.loads((tmp_path / "out.json").read_text())["models"]
    dense, pruned = (found[name] for name in models)
    assert dense["macs_per_second"] > pruned["macs_per_second"]
    assert dense["parameters"] - pruned["parameters"] == 2 * 24 * 20 + 20 + 24
    name = "backbone.encoder.layers.0.feed_forward.intermediate_dense"
    assert name in dense["modules"] and name not in pruned["modules"]
    assert set(dense["latency"]) == {"p10", "p50", "p90", "p99"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seconds", "0"], "--seconds is 0.0, but has to be above 0"),
        (["--device", "cuda:99"], "cuda:99"),
        (["/nowhere/model"], "/nowhere/model: no such directory"),
    ],
)
def test_errors(models, options, message, capsys):
    with pytest.raises(SystemExit):
        profile.main([models[0], *options])
    assert message in capsys.readouterr().err
