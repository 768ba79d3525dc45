import json

import pytest

from espnet_prune.evaluate.superb.common_rate import common_rate, main


def sweep(path, values, criterion="valid.acc.max"):
    """`learning_rates.json` with rate -> value; None: it diverged."""
    name = criterion.rpartition(".")[0]
    rows = []
    for rate, value in values.items():
        rows.append({"train_dir": f"lr_{rate}", "lr": rate})
        if value is not None:
            rows[-1] |= {"epoch": 1, name: value}
    path.mkdir(parents=True)
    file = path / "learning_rates.json"
    file.write_text(json.dumps({"criterion": criterion, "chosen": 0, "trainings": rows}))
    return file


def test_mean_over_folds(tmp_path, capsys):
    sweep(tmp_path / "exp/fold1", {1e-3: 0.75, 1e-2: 1.0, 1e-1: 1.0})
    sweep(tmp_path / "exp/fold2", {1e-3: 0.75, 1e-2: 0.25, 1e-1: None})
    assert main([str(tmp_path / "exp"), "--output", str(tmp_path / "rate.json")]) == 0
    record = json.loads((tmp_path / "rate.json").read_text())
    assert record["chosen"] == 1e-3 and record["means"] == {"0.001": 0.75, "0.01": 0.625}
    assert capsys.readouterr().out == "0.001\n"


def test_least_and_first_of_equals(tmp_path):
    file = sweep(tmp_path / "a", {0.1: 2.0, 0.2: 1.0, 0.3: 1.0}, "valid.cer_ctc.min")
    assert common_rate([file])["chosen"] == 0.2


def test_errors(tmp_path, capsys):
    one = sweep(tmp_path / "a", {0.1: 0.5})
    with pytest.raises(ValueError, match="other rates than"):
        common_rate([one, sweep(tmp_path / "b", {0.2: 0.5})])
    with pytest.raises(ValueError, match="another criterion"):
        common_rate([one, sweep(tmp_path / "c", {0.1: 0.5}, "valid.loss.min")])
    with pytest.raises(ValueError, match="none of the rates"):
        common_rate([sweep(tmp_path / "d", {0.1: None})])
    damaged = tmp_path / "damaged/learning_rates.json"
    damaged.parent.mkdir()
    for text, message in (
        ("{", "not JSON"),
        ("{}", "has no 'criterion'"),
        ('{"criterion": "valid.acc.max", "trainings": [{}]}', "a training without 'lr'"),
    ):
        damaged.write_text(text)
        assert main([str(damaged.parent), "--output", str(tmp_path / "x")]) == 1
        assert f"error: {damaged}: {message}" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "--output", str(tmp_path / "x")]) == 1
    assert "error: no learning_rates.json: run the sweep first" in capsys.readouterr().err
