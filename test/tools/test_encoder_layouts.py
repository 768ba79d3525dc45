import json

import encoder_layouts
import pytest
import torch
from transformers import AutoConfig

from espnet_prune.cli import main
from espnet_prune.structured import SpeechEncoder, SpeechEncoderConfig
from espnet_prune.structured.encoder import random_encoder
from test.espnet_prune.latency_tables import synthetic

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
    monkeypatch.setitem(encoder_layouts.ARCHITECTURES, "wavlm_base_plus", entry)


def test_layouts_of_one_size_side_by_side(tmp_path, capsys):
    output = tmp_path / "bench.json"
    args = ["--target", "0.4", "--seconds", "1", "--repeats", "2", "--output", str(output)]
    encoder_layouts.main(args)
    printed = capsys.readouterr().out
    assert "random weights, 1 s of audio, batch 1" in printed and "dense, torchaudio" in printed
    models = json.loads(output.read_text())["models"]
    dense = models["dense, this package"]["parameters"]
    for layout in encoder_layouts.LAYOUTS:
        if f"pruned: {layout}: left out" in printed:  # equal sizes of a tiny model are large steps
            assert "uniform" in layout or "whole heads" in layout
            continue
        found = models[f"pruned: {layout}"]
        assert found["parameters"] == pytest.approx(0.6 * dense, rel=0.01)
        assert len(found["seconds"]) == 2 and found["speed"] > 0


def test_a_layout_that_cannot_be_so_small_is_left_out(capsys):
    encoder_layouts.main(["--target", "0.9", "--seconds", "1", "--repeats", "1"])
    printed = capsys.readouterr().out
    assert "pruned: Transformer: left out, it cannot lose 90%" in printed


def sizes_left(small):
    attention = small.backbone.encoder.layers[1].attention
    return attention.heads, attention.qk_sizes, attention.vo_sizes


def test_sizes_of_a_layout():
    torch.manual_seed(0)
    sizes = {"hidden_size": 96, "intermediate_size": 400}
    base = AutoConfig.for_model("wavlm", **{**TINY, **sizes}).to_dict()
    encoder = SpeechEncoder(SpeechEncoderConfig(family="wavlm", base=base))
    protected = ("cnn", "pos_conv")
    small, exact = encoder_layouts.prune(encoder, 0.3, protected, "uniform", 1)
    heads, qk, vo = sizes_left(small)
    assert exact == pytest.approx(0.3, abs=0.01) and heads == (0, 1, 2, 3)
    assert len({*qk, *vo}) == 1 and 0 < qk[0] < 24
    small, _ = encoder_layouts.prune(encoder, 0.3, protected, "whole heads", 1)
    heads, qk, vo = sizes_left(small)
    assert 0 < len(heads) < 4 and {*qk, *vo} == {24}
    small, exact = encoder_layouts.prune(encoder, 0.3, protected, "random", 8)
    _, qk, vo = sizes_left(small)
    assert exact == pytest.approx(0.3, abs=0.02) and {*qk, *vo} <= {8, 16, 24}


@pytest.mark.parametrize("option", ["--target", "--device", "--round_to"])
def test_errors(option, capsys):
    value = {"--target": "1.0", "--device": "cuda:99", "--round_to": "0"}[option]
    with pytest.raises(SystemExit):
        encoder_layouts.main([option, value])
    assert f"error: {option} is {value}" in capsys.readouterr().err


def test_models_with_learned_sizes(tmp_path, capsys):
    torch.manual_seed(0)
    base = AutoConfig.for_model("wavlm", **TINY).to_dict()
    encoder = SpeechEncoder(SpeechEncoderConfig(family="wavlm", base=base))
    small, _ = encoder_layouts.prune(encoder, 0.4, (), "random", 1)
    small.save_pretrained(tmp_path / "slim")
    output = tmp_path / "bench.json"
    args = ["--target", "0.4", "--seconds", "1", "--repeats", "1", "--output", str(output)]
    encoder_layouts.main([*args, "--model", f"learned={tmp_path / 'slim'}"])
    found = json.loads(output.read_text())["models"]["pruned: learned"]
    assert found["parameters"] == float(small.plan().parameters())
    base = AutoConfig.for_model("wavlm", **{**TINY, "intermediate_size": 70}).to_dict()
    other = SpeechEncoder(SpeechEncoderConfig(family="wavlm", base=base))
    other.save_pretrained(tmp_path / "other")
    for text, message in (
        ("learned", "--model is learned, but has to be LABEL=DIRECTORY"),
        (f"other={tmp_path / 'other'}", "its base has intermediate_size 70, wavlm_base_plus 60"),
    ):
        with pytest.raises(SystemExit):
            encoder_layouts.main([*args, "--model", text])
        assert message in capsys.readouterr().err


def test_bench_beside_a_table_that_was_measured(tmp_path, capsys):
    config, table = tmp_path / "tiny.json", tmp_path / "table.json"
    config.write_text(json.dumps({"model_type": "wavlm", **TINY}))
    common = ["--seconds", "1", "--repeats", "1", "--threads", "1"]
    main(["encoder", "latency", "--model", str(config), "--output", str(table), *common])
    printed = capsys.readouterr().out
    assert "| attention    | 4 x 6 x 6 " in printed and "| 2 x 3 x 3 " in printed
    assert "1 threads" in printed and "against 6 models of random sizes" in printed
    found = json.loads(table.read_text())
    conditions = {"seconds": 1.0, "batch": 1, "dtype": "float32", "device": "cpu", "threads": 1}
    assert found["measured_with"] == conditions and found["checks"] == 6
    # a grid of 4 numbers of heads x 3 x 3 sizes and the dense model; no channels are CNN's 5 x 5
    assert len(found["trials"]["measured"]) == 1 + 36 + 6
    assert "- CPU:" in found["environment"]

    # The times of a tiny model are those of its overhead: others in their place
    plan = random_encoder(config).plan()
    times = {key: synthetic(plan).to_json()[key] for key in ("rest_seconds", "grids")}
    assert found["fingerprint"] == plan.fingerprint and set(found["grids"]) == set(times["grids"])
    table.write_text(json.dumps({**found, **times}))
    output = tmp_path / "bench.json"
    bench = ["--latency_table", str(table), "--cost", "latency", "--target", "0.1"]
    encoder_layouts.main([*bench, *common, "--output", str(output)])
    assert "| predicted ms | error " in capsys.readouterr().out
    models = json.loads(output.read_text())["models"]
    whole = models["dense, this package"]["predicted_seconds"]
    pruned = [m["predicted_seconds"] for label, m in models.items() if "pruned" in label]
    assert pruned and pruned == pytest.approx([0.9 * whole] * len(pruned), rel=0.01)
    for args, message in (
        ([*bench, *common, "--seconds", "2"], "was measured with seconds 1.0, here it is 2.0"),
        (["--cost", "latency"], "--latency_table: give one, since --cost is latency"),
    ):
        with pytest.raises(SystemExit):
            encoder_layouts.main(args)
        assert message in capsys.readouterr().err
