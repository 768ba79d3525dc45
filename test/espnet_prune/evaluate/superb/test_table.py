import json

import pytest

from espnet_prune.cli import main


def result(folder, task, seed, parameters=4.0, rates=(0.01,), **metrics):
    """What scorer and last stage leave behind: metric -> value, with intervals of 0.1 around."""
    folder = folder / task
    folder.mkdir(parents=True)
    entries = {n: {"value": v, "low": v - 0.1, "high": v + 0.1} for n, v in metrics.items()}
    (folder / "scores.json").write_text(json.dumps({"metrics": entries}))
    run = {"task": task, "seed": seed, "parameters_millions": parameters}
    if rates:
        run["learning_rates"] = rates
    (folder / "run.json").write_text(json.dumps(run))


@pytest.fixture
def arguments(tmp_path):
    result(tmp_path / "dense0", "KS", 0, 8.0, (0.1, 0.01), accuracy=0.9)
    result(tmp_path / "dense1", "KS", 1, 8.0, accuracy=0.8)
    result(tmp_path / "dense0", "ASR", 0, 8.0, wer=0.5, cer=0.25)
    result(tmp_path / "small", "KS", 0, accuracy=0.5)
    result(tmp_path / "small", "ASR", 0, wer=1.25, cer=0.5)
    args = ["--encoder", "dense", f"{tmp_path}/dense0", f"{tmp_path}/dense1"]
    args += ["--encoder", "small", f"{tmp_path}/small", "--tasks", "KS", "ASR"]
    return [*args, "--output_dir", f"{tmp_path}/out", "--note", "A note.", "--command", "./run.sh"]


def test_seeds_are_put_together(arguments, tmp_path, capsys):
    main(["superb", "table", *arguments])
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()]
    assert rows[0] == ["encoder", "parameters (M)", "KS accuracy %", "ASR wer %", "ASR cer %"]
    assert rows[2] == [
        *("dense", "8.000", "85.0 [75.0, 95.0] (80.0 to 90.0)"),
        *("50.0 [40.0, 60.0]", "25.0 [15.0, 35.0]"),
    ]
    assert rows[3][:4] == ["small", "4.000", "50.0 [40.0, 60.0]", "125.0 [115.0, 135.0]"]
    text = (tmp_path / "out/RESULTS.md").read_text()
    assert printed in text and "A note." in text and "`./run.sh`" in text
    rates = "Learning rates of the probes: KS 0.01, 0.1 (dense), 0.01 (small); ASR 0.01."
    assert rates in text
    first = json.loads((tmp_path / "out/results.json").read_text())["encoders"][0]
    assert first["parameters_millions"] == 8
    assert first["scores"]["KS accuracy"]["mean"] == pytest.approx(0.85)
    assert first["scores"]["KS accuracy"]["seeds"]["1"]["value"] == 0.8
    assert (tmp_path / "out/results.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "small/ASR/scores.json").unlink(), "run ASR with it first"),
        (lambda d: (d / "small/KS/run.json").unlink(), "run the last stage again"),
        (lambda d: (d / "small/KS/run.json").write_text("{"), "small/KS/run.json: not JSON"),
        (lambda d: (d / "small/KS/run.json").write_text("{}"), "run.json: has no 'parameters_mill"),
        (lambda d: (d / "small/KS/scores.json").write_text("[]"), "scores.json: not a JSON object"),
        (
            lambda d: (d / "small/KS/scores.json").write_text('{"metrics": {"accuracy": 1}}'),
            "small/KS/scores.json: accuracy has no value, low and high",
        ),
        (
            lambda d: (d / "small/ASR/scores.json").write_text('{"metrics": {}}'),
            "small: its results have no 'ASR wer', but those of dense have; score ASR",
        ),
        (lambda d: result(d / "dense1", "ASR", 0, 8.0, wer=0.1), "another run of ASR with seed 0"),
        (lambda d: result(d / "dense1", "ASR", 1, 7.0, wer=0.1), "of other results of dense has 8"),
    ],
)
def test_what_is_missing_or_does_not_belong_together(arguments, tmp_path, capsys, change, message):
    change(tmp_path)
    with pytest.raises(SystemExit):
        main(["superb", "table", *arguments])
    assert message in capsys.readouterr().err


def test_rates_that_were_not_recorded(tmp_path, capsys):
    result(tmp_path / "old", "KS", 0, rates=(), accuracy=0.9)
    args = ["--encoder", "old", f"{tmp_path}/old", "--tasks", "KS"]
    main(["superb", "table", *args, "--output_dir", str(tmp_path / "out")])
    assert "probes: KS not recorded." in (tmp_path / "out/RESULTS.md").read_text()


def test_encoder_without_results(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["superb", "table", *arguments, "--encoder", "lonely"])
    assert "--encoder lonely: give its results directories, too" in capsys.readouterr().err
