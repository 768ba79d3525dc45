import json

import numpy as np
import pytest
import torch

from espnet_prune.cli import main
from espnet_prune.evaluate.superb.learning_rate import choose, common_rate


def training(folder, rate, values, name="acc"):
    """What ESPnet leaves behind, as far as it is read."""
    folder.mkdir()
    (folder / "config.yaml").write_text(f"optim_conf:\n    lr: {rate}\n")
    stats = {
        epoch: {"train": {"loss": 1.0}, "valid": {name: np.float64(value)}}
        for epoch, value in enumerate(values, 1)
    }
    torch.save({"reporter": {"stats": stats, "epoch": len(values)}}, folder / "checkpoint.pth")
    return folder


def test_the_learning_rate_is_chosen_on_valid(tmp_path, caplog):
    trained = [
        training(tmp_path / "lr_1", 1.0, [float("nan"), float("nan")]),
        training(tmp_path / "lr_2", 0.1, [0.5, 0.9, 0.7]),
        training(tmp_path / "lr_3", 0.01, [0.8, 0.9]),
    ]
    args = ["superb", "choose", *map(str, trained), "--criterion", "acc.max"]
    for _ in range(2):  # again, where the link is there
        main([*args, "--link", str(tmp_path / "best")])
    assert (tmp_path / "best").resolve() == tmp_path / "lr_2"  # the first of equals
    found = json.loads((tmp_path / "learning_rates.json").read_text())
    assert found["chosen"] == 0.1
    assert [row.get("epoch") for row in found["trainings"]] == [None, 2, 2]
    assert "has no number valid.acc" in caplog.text
    line = choose(trained[1:], "acc.min", tmp_path / "best")
    assert line.startswith(f"{tmp_path / 'lr_2'}: the best by valid.acc.min, see ")


def test_a_choice_that_cannot_be_made(tmp_path):
    diverged = training(tmp_path / "lr_1", 1.0, [float("nan")])
    with pytest.raises(ValueError, match="has no number valid.acc"):
        choose([diverged], "acc.max", tmp_path / "best")
    with pytest.raises(ValueError, match="--criterion acc: give one such as acc.max"):
        choose([diverged], "acc", tmp_path / "best")
    (diverged / "checkpoint.pth").unlink()
    with pytest.raises(FileNotFoundError, match="has the training ended"):
        choose([diverged], "acc.max", tmp_path / "best")


def sweep(path, values, criterion="valid.acc.max"):
    """`learning_rates.json` with rate -> value; None: it diverged."""
    name = criterion.rpartition(".")[0]
    rows = []
    for rate, value in values.items():
        rows.append({"train_dir": f"lr_{rate}", "lr": rate})
        if value is not None:
            rows[-1] |= {"epoch": 1, name: value}
    path.mkdir(parents=True)
    text = json.dumps({"criterion": criterion, "chosen": 0, "trainings": rows})
    (path / "learning_rates.json").write_text(text)


def test_mean_over_folds(tmp_path, capsys):
    sweep(tmp_path / "exp/fold1", {1e-3: 0.75, 1e-2: 1.0, 1e-1: 1.0})
    sweep(tmp_path / "exp/fold2", {1e-3: 0.75, 1e-2: 0.25, 1e-1: None})
    main(["superb", "common-rate", str(tmp_path / "exp"), "--output", str(tmp_path / "rate.json")])
    record = json.loads((tmp_path / "rate.json").read_text())
    assert record["chosen"] == 1e-3 and record["means"] == {"0.001": 0.75, "0.01": 0.625}
    assert capsys.readouterr().out == "0.001\n"


def test_least_and_first_of_equals(tmp_path):
    sweep(tmp_path / "a", {0.1: 2.0, 0.2: 1.0, 0.3: 1.0}, "valid.cer_ctc.min")
    assert common_rate([tmp_path], tmp_path / "rate.json") == "0.2"


def test_errors(tmp_path, capsys):
    a, b, c, d = (tmp_path / name for name in "abcd")
    sweep(a, {0.1: 0.5})
    sweep(b, {0.2: 0.5})
    sweep(c, {0.1: 0.5}, "valid.loss.min")
    sweep(d, {0.1: None})
    for folders, message in (
        ([a, b], "other rates than"),
        ([a, c], "another criterion"),
        ([d], "none of the rates"),
    ):
        with pytest.raises(ValueError, match=message):
            common_rate(folders, tmp_path / "x")
    damaged = tmp_path / "damaged/learning_rates.json"
    damaged.parent.mkdir()
    for text, message in (
        ("{", "not JSON"),
        ("{}", "has no 'criterion'"),
        ('{"criterion": "valid.acc.max", "trainings": [{}]}', "a training without 'lr'"),
    ):
        damaged.write_text(text)
        with pytest.raises(SystemExit):
            main(["superb", "common-rate", str(damaged.parent), "--output", str(tmp_path / "x")])
        assert f"error: {damaged}: {message}" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit):
        main(["superb", "common-rate", str(tmp_path / "empty"), "--output", str(tmp_path / "x")])
    assert "error: no learning_rates.json: run the sweep first" in capsys.readouterr().err
