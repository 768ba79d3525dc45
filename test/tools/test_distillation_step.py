import argparse
import importlib
import json
import os

import distillation_step
import pytest
import torch

TINY = {
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 60,
    "conv_dim": (12, 12, 12),
    "conv_stride": (5, 4, 16),
    "conv_kernel": (10, 8, 16),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}


@pytest.fixture
def tiny(monkeypatch):
    entry = ("wavlm", TINY, torch.nn.Identity)
    monkeypatch.setitem(distillation_step.ARCHITECTURES, "wavlm_base_plus", entry)
    # Not in fresh processes: those would not see the tiny architecture
    monkeypatch.setattr(distillation_step, "in_fresh_process", distillation_step.measure)


def test_settings_side_by_side(tiny, tmp_path, capsys):
    output = tmp_path / "bench.json"
    args = ["--seconds", "1", "--batch", "2", "--updates", "2", "--output", str(output)]
    distillation_step.main(args)
    printed = capsys.readouterr().out
    assert "random weights, 2 x 1 s of audio, float32, cpu" in printed
    report = json.loads(output.read_text())
    assert list(report["settings"]) == list(distillation_step.SETTINGS)
    for name, numbers in report["settings"].items():
        assert len(numbers["seconds"]) == 2 and min(numbers["seconds"]) > 0
        assert numbers["peak_bytes"] >= numbers["bytes_before"] > 1e8  # torch alone takes as much
        (row,) = (line for line in printed.splitlines() if line.startswith(f"| {name} "))
        assert f"{numbers['peak_bytes'] / 1e9:.2f}" in row


def test_arguments_of_a_setting_reach_the_model(tiny):
    model = distillation_step.build("wavlm_base_plus", **distillation_step.SETTINGS["both"])
    assert model.activation_checkpointing and model.layers == [0, 4]
    assert model.teacher.backbone.encoder.layers[0].attention.q_proj.weight.dtype == torch.bfloat16
    assert model.encoder.dtype == torch.float32
    assert model.pruning.target == 0.72


def test_every_setting_has_a_process_of_its_own(tmp_path, monkeypatch):
    # In a small module of their own, which is all that the processes import then
    (tmp_path / "in_processes.py").write_text(
        "import os\n\ndef identify(*_):\n    return os.getpid()\n\ndef die(*_):\n    os._exit(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    functions = importlib.import_module("in_processes")
    monkeypatch.setattr(distillation_step, "measure", functions.identify)
    pids = {distillation_step.in_fresh_process("baseline", argparse.Namespace()) for _ in range(2)}
    assert len(pids) == 2 and os.getpid() not in pids
    monkeypatch.setattr(distillation_step, "measure", functions.die)
    with pytest.raises(ValueError, match="baseline: its process was killed"):
        distillation_step.in_fresh_process("baseline", argparse.Namespace())


@pytest.mark.parametrize("option", ["--batch", "--device", "--settings"])
def test_errors(option, capsys):
    value = {"--batch": "0", "--device": "cuda:99", "--settings": "all"}[option]
    with pytest.raises(SystemExit):
        distillation_step.main([option, value])
    wanted = {
        "--batch": "error: --batch is 0, but has to be above 0",
        "--device": "error: --device is cuda:99",
        "--settings": "invalid choice: 'all' (choose from",
    }[option]
    assert wanted in capsys.readouterr().err
