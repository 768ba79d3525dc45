import json

import onnxruntime
import pytest
import torch
import yaml

from espnet_prune.cli import main
from espnet_prune.evaluate.pruning_report import write_pruned
from espnet_prune.structured import LatencyTable, load_encoder, slim
from espnet_prune.structured.distill import DistillModel, PruningConf
from espnet_prune.structured.export import onnx
from espnet_prune.structured.prune_and_distil import slimmed
from test.espnet_prune.latency_tables import table_file
from test.espnet_prune.structured.checkpoints.dphubert_files import cut
from test.espnet_prune.structured.checkpoints.torchaudio_models import assert_same_states
from test.espnet_prune.tiny import random_masks, saved

SPEECH = torch.randn(1, 4000, generator=torch.Generator().manual_seed(5))


def encoder(*args) -> None:
    main(["encoder", *map(str, args)])


def test_directory_is_what_load_encoder_reads(tmp_path, capsys):
    content, model = cut("base", True, gain=True)
    torch.save(content, tmp_path / "pruned.pth")
    encoder("import", "--checkpoint", tmp_path / "pruned.pth", "--output_dir", tmp_path / "encoder")
    out = capsys.readouterr().out
    assert "wavlm of dphubert format, 3 layers" in out and "already slimmed" in out
    assert_same_states(load_encoder(tmp_path / "encoder"), model, SPEECH)
    written = {p.name for p in (tmp_path / "encoder").iterdir()}
    assert written == {"config.json", "model.safetensors"}
    encoder(
        "import", "--checkpoint", tmp_path / "pruned.pth", "--output_dir", tmp_path / "encoder"
    )  # again in the same place
    assert {p.name for p in tmp_path.iterdir()} == {"pruned.pth", "encoder"}


def test_errors_are_one_line_and_leave_nothing(tmp_path, capsys):
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint")
    with pytest.raises(SystemExit) as error:
        encoder("import", "--checkpoint", tmp_path / "bad.pt", "--output_dir", tmp_path / "encoder")
    assert error.value.code == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'bad.pt'}: damaged")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.pt"]


def test_directory_with_other_files_is_not_replaced(tmp_path, capsys):
    content, _ = cut("base", False, gain=False)
    torch.save(content, tmp_path / "pruned.pth")
    with pytest.raises(SystemExit):
        encoder("import", "--checkpoint", tmp_path / "pruned.pth", "--output_dir", tmp_path)
    assert "holds pruned.pth, which is not part of an encoder directory" in capsys.readouterr().err
    assert (tmp_path / "pruned.pth").is_file()


@pytest.fixture
def pruned(tmp_path):
    def make(layout):
        dense = load_encoder(saved(layout, tmp_path / "dense"))
        masks = random_masks(dense.plan(), torch.Generator().manual_seed(0))
        slim(dense, masks).save_pretrained(tmp_path / "pruned")
        return tmp_path / "pruned"

    return make


@pytest.mark.parametrize("layout", ["whisper", "wavlm-base", "hubert-large"])
def test_onnx_runtime_gives_what_torch_gives(pruned, layout, tmp_path, capsys):
    model, output = pruned(layout), tmp_path / "out" / "model.onnx"
    every = ["--all_layers", "true"] if layout == "whisper" else []
    encoder("export", "--to", "onnx", "--model", str(model), "--output", str(output), *every)
    assert "differs from torch by" in capsys.readouterr().out
    speech = torch.randn(1, 9123, generator=torch.Generator().manual_seed(3))
    found = onnxruntime.InferenceSession(str(output)).run(None, {"speech": speech.numpy()})
    with torch.no_grad():
        wanted = load_encoder(model).eval()(speech, full_window=False)
    states = wanted.hidden_states if every else [wanted.last_hidden_state]
    assert len(found) == len(states)
    for a, b in zip(found, states, strict=True):
        assert (torch.tensor(a) - b).abs().max() < 1e-4
    assert [path.name for path in output.parent.iterdir()] == ["model.onnx"]


def test_an_output_that_differs_is_not_written(pruned, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    output = tmp_path / "out" / "model.onnx"
    with pytest.raises(SystemExit):
        encoder(
            "export",
            "--to",
            "onnx",
            "--model",
            str(pruned("hubert-large")),
            "--output",
            str(output),
        )
    assert "differs from torch's" in capsys.readouterr().err
    assert not list(output.parent.iterdir())


@pytest.fixture
def models(tmp_path):
    dense = saved("wavlm-base", tmp_path / "dense")
    whole = load_encoder(dense)
    masks = {"encoder.layers.0.ffn": [0.0]}
    plan = whole.plan()
    ones = {name: torch.ones(plan.size(name)) for name in plan.prunable()}
    ones |= {name: torch.tensor(value) for name, value in masks.items()}
    slim(whole, ones).save_pretrained(tmp_path / "pruned")
    return str(dense), str(tmp_path / "pruned")


def test_profile_as_table_and_json(models, tmp_path, capsys):
    args = [*models, "--seconds", "1", "--repeats", "2", "--threads", "1", "--depth", "4"]
    encoder("profile", *args, "--output", str(tmp_path / "out.json"))
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
        (["--seconds", "nan"], "--seconds is nan, but has to be above 0"),
        (["--device", "cuda:99"], "cuda:99"),
        (["/nowhere/model"], "/nowhere/model: no such directory"),
    ],
)
def test_errors_of_profile(models, options, message, capsys):
    with pytest.raises(SystemExit):
        encoder("profile", models[0], *options)
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return saved("whisper", tmp_path_factory.mktemp("teacher"))


def test_whisper_is_measured_at_its_window(teacher, tmp_path):
    args = ["--model", str(teacher), "--output", str(tmp_path / "t.json"), "--repeats", "1"]
    encoder("latency", *args)
    measured_with = json.loads((tmp_path / "t.json").read_text())["measured_with"]
    assert measured_with["seconds"] == 60 * 320 / 16000


def check(summary: dict, target: float, table) -> None:
    assert (summary["cost"], summary["latency_table"]) == ("latency", str(table))
    assert summary["exact"] == pytest.approx(target, abs=0.02)
    share = summary["latency_seconds"] / summary["dense_latency_seconds"]
    assert 1 - share == pytest.approx(summary["exact"], abs=1e-6)


def test_slim_and_random_by_latency(teacher, tmp_path, capsys):
    plan = load_encoder(teacher).plan()
    table = table_file(plan, tmp_path / "table.json")
    pruning = PruningConf(target=0.4, cost="latency", latency_table=str(table))
    model = DistillModel(load_encoder(teacher), load_encoder(teacher), pruning)
    small, summary = slimmed(model)
    write_pruned(small, summary, tmp_path / "slim", model.student.cost)
    check(json.loads((tmp_path / "slim" / "summary.json").read_text()), 0.4, table)
    dense = 1000 * float(plan.cost(LatencyTable.load(table)))
    assert f" of {dense:.1f} ms by {table}" in capsys.readouterr().out

    config = tmp_path / "prune.yaml"
    config.write_text(yaml.safe_dump({"pruning_conf": {"cost": "latency"}}))
    args = ["--teacher", str(teacher), "--output_dir", str(tmp_path / "random"), "--"]
    args += ["--config", str(config), "--pruning_conf", "target=0.4"]
    encoder("random", *args, "--pruning_conf", f"latency_table={table}")
    check(json.loads((tmp_path / "random" / "summary.json").read_text()), 0.4, table)
    with pytest.raises(SystemExit):
        encoder("random", *args)
    assert "error: pruning_conf.latency_table: give the file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "/nowhere/model"], "/nowhere/model: no such directory"),
        (["--model", __file__], f"{__file__}: not JSON"),
        (["--model", "x", "--repeats", "0"], "--repeats is 0, but has to be above 0"),
    ],
)
def test_errors_of_latency(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        encoder("latency", *options, "--output", tmp_path / "table.json")
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_random_and_scratch(tiny, tmp_path, capsys):
    args = ["--teacher", tiny["whisper"], "--output_dir", f"{tmp_path}/random"]
    encoder("random", *args, "--", "--pruning_conf", "target=0.4")
    args = ["--like", f"{tmp_path}/random", "--seed", "3", "--output_dir", f"{tmp_path}/scratch"]
    encoder("scratch", *args)
    random, scratch = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("random", "scratch")
    )
    assert scratch["parameters"] == random["parameters"] and scratch["seed"] == 3
    assert scratch["exact"] == pytest.approx(random["exact"])
    assert load_encoder(tmp_path / "scratch").kept == load_encoder(tmp_path / "random").kept
    with pytest.raises(SystemExit):
        encoder("scratch", "--like", f"{tmp_path}/none", "--output_dir", f"{tmp_path}/x")
    assert "none: no such directory" in capsys.readouterr().err


def test_the_share_that_is_gone(tmp_path, capsys):
    path = tmp_path / "summary.json"
    path.write_text('{"parameters": 4001, "dense_parameters": 8000}')
    encoder("removed-share", tmp_path)
    assert capsys.readouterr().out == "0.5\n"
    path.write_text('{"parameters": 4001}')
    with pytest.raises(SystemExit):
        encoder("removed-share", tmp_path)
    assert f"error: {path}: has no 'dense_parameters'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        encoder("removed-share", tmp_path / "x")
    assert "x/summary.json: no such file" in capsys.readouterr().err
