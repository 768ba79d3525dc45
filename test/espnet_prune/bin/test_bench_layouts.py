import json

import pytest
import torch

from espnet_prune.bin import bench_layouts

TINY = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 60,
    "conv_dim": (12, 12, 12),
    "conv_stride": (5, 4, 16),
    "conv_kernel": (10, 8, 16),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    entry = ("wavlm", TINY, torch.nn.Identity)
    monkeypatch.setitem(bench_layouts.ARCHITECTURES, "wavlm_base_plus", entry)


def test_layouts_of_one_size_side_by_side(tmp_path, capsys):
    output = tmp_path / "bench.json"
    args = ["--target", "0.4", "--seconds", "1", "--repeats", "2", "--output", str(output)]
    bench_layouts.main(args)
    printed = capsys.readouterr().out
    assert "random weights, 1 s of audio, batch 1" in printed and "dense, torchaudio" in printed
    models = json.loads(output.read_text())["models"]
    dense = models["dense, this package"]["parameters"]
    for layout in bench_layouts.LAYOUTS:
        found = models[f"pruned: {layout}"]
        assert found["parameters"] == pytest.approx(0.6 * dense, rel=0.01)
        assert len(found["seconds"]) == 2 and found["speed"] > 0


def test_a_layout_that_cannot_be_so_small_is_left_out(capsys):
    bench_layouts.main(["--target", "0.9", "--seconds", "1", "--repeats", "1"])
    printed = capsys.readouterr().out
    assert "pruned: Transformer: left out, it cannot lose 90%" in printed


@pytest.mark.parametrize("option", ["--target", "--device"])
def test_errors(option, capsys):
    value = {"--target": "1.0", "--device": "cuda:99"}[option]
    with pytest.raises(SystemExit):
        bench_layouts.main([option, value])
    assert f"error: {option} is {value}" in capsys.readouterr().err
