import json

import pytest
import yaml

from espnet_prune.bin import bench_layouts, latency_table, ssl_prune_export, ssl_prune_random
from espnet_prune.structured import LatencyTable, load_encoder
from espnet_prune.structured.distill import DistillModel, PruningConf
from espnet_prune.structured.encoder import random_encoder
from test.espnet_prune.bin.test_bench_layouts import TINY
from test.espnet_prune.latency_tables import synthetic, table_file
from test.espnet_prune.tiny import saved


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return saved("whisper", tmp_path_factory.mktemp("teacher"))


def test_bench_beside_a_table_that_was_measured(tmp_path, monkeypatch, capsys):
    entry = ("wavlm", TINY, bench_layouts.torch.nn.Identity)
    monkeypatch.setitem(bench_layouts.ARCHITECTURES, "wavlm_base_plus", entry)
    config, table = tmp_path / "tiny.json", tmp_path / "table.json"
    config.write_text(json.dumps({"model_type": "wavlm", **TINY}))
    common = ["--seconds", "1", "--repeats", "1", "--threads", "1"]
    latency_table.main(["--model", str(config), "--output", str(table), *common])
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
    bench_layouts.main([*bench, *common, "--output", str(output)])
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
            bench_layouts.main(args)
        assert message in capsys.readouterr().err


def test_whisper_is_measured_at_its_window(teacher, tmp_path):
    args = ["--model", str(teacher), "--output", str(tmp_path / "t.json"), "--repeats", "1"]
    latency_table.main(args)
    measured_with = json.loads((tmp_path / "t.json").read_text())["measured_with"]
    assert measured_with["seconds"] == 60 * 320 / 16000


def check(summary: dict, target: float, table) -> None:
    assert (summary["cost"], summary["latency_table"]) == ("latency", str(table))
    assert summary["exact"] == pytest.approx(target, abs=0.02)
    share = summary["latency_seconds"] / summary["dense_latency_seconds"]
    assert 1 - share == pytest.approx(summary["exact"], abs=1e-6)


def test_export_and_baseline(teacher, tmp_path, capsys):
    plan = load_encoder(teacher).plan()
    table = table_file(plan, tmp_path / "table.json")
    pruning = PruningConf(target=0.4, cost="latency", latency_table=str(table))
    model = DistillModel(load_encoder(teacher), load_encoder(teacher), pruning)
    small, summary = ssl_prune_export.slimmed(model, True)
    ssl_prune_export.write(small, summary, tmp_path / "slim", model.student.cost)
    check(json.loads((tmp_path / "slim" / "summary.json").read_text()), 0.4, table)
    dense = 1000 * float(plan.cost(LatencyTable.load(table)))
    assert f" of {dense:.1f} ms by {table}" in capsys.readouterr().out

    config = tmp_path / "prune.yaml"
    config.write_text(yaml.safe_dump({"pruning_conf": {"cost": "latency"}}))
    args = ["--teacher", str(teacher), "--output_dir", str(tmp_path / "random"), "--"]
    args += ["--config", str(config), "--pruning_conf", "target=0.4"]
    ssl_prune_random.main([*args, "--pruning_conf", f"latency_table={table}"])
    check(json.loads((tmp_path / "random" / "summary.json").read_text()), 0.4, table)
    with pytest.raises(SystemExit):
        ssl_prune_random.main(args)
    assert "error: pruning_conf.latency_table: give the file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "/nowhere/model"], "/nowhere/model: no such directory"),
        (["--model", __file__], "no JSON of a model's configuration"),
        (["--model", "x", "--repeats", "0"], "--repeats is 0, but has to be above 0"),
    ],
)
def test_errors(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        latency_table.main([*options, "--output", str(tmp_path / "table.json")])
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
