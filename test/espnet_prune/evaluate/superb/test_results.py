import json

import pytest

from espnet_prune.cli import main
from espnet_prune.evaluate.metrics.bootstrap import Estimate
from espnet_prune.evaluate.report import write_scores
from test.espnet_prune.tiny import saved


@pytest.fixture
def arguments(tmp_path):
    """Of an encoder and a results directory without scores."""
    encoder = saved("wavlm-base", tmp_path / "wavlm")
    args = ["--results_dir", str(tmp_path / "results"), "--upstream", str(encoder)]
    return [*args, "--command", "./run.sh --a b"]


def score(tmp_path, task, value, *tested):
    accuracy = Estimate(value, value - 0.1, value + 0.1)
    write_scores(tmp_path / "results" / task, {"accuracy": accuracy})
    (tmp_path / "results" / task / "tested").write_text("".join(f"{each}\n" for each in tested))


def training(folder, rate, **tried):
    """An ESPnet training, and beside it the sweep that chose among `tried`."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"optim_conf: {{lr: {rate}}}\n")
    rows = [{"train_dir": name, "lr": lr} for name, lr in tried.items()]
    sweep = {"criterion": "valid.acc.max", "chosen": max(tried.values()), "trainings": rows}
    folder.with_name("learning_rates.json").write_text(json.dumps(sweep))
    return folder


def test_all_tasks_of_the_directory(arguments, tmp_path, capsys):
    exp = tmp_path / "exp"
    one = training(exp / "fold1/lr_a", 0.1, lr_a=0.1, lr_b=0.01)
    two = training(exp / "fold2/lr_b", 0.01, lr_b=0.01, lr_c=0.001)
    score(tmp_path, "LID", 0.5, training(exp / "lid/train", 0.002, lr_a=0.1))
    main(["superb", "results", *arguments, "--task", "LID"])
    (tmp_path / "results/LID/run.json").write_text('{"task": "LID", "command": "c"}')  # of old
    score(tmp_path, "KS", 0.8, one, two)
    main(["superb", "results", *arguments, "--task", "KS", "--seed", "2"])
    text = (tmp_path / "results" / "RESULTS.md").read_text()
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    assert rows[2:] == [
        ["KS", "accuracy", "80.00 [70.00, 90.00]", "0.01 (chosen), 0.1 (chosen)", "2"],
        ["LID", "accuracy", "50.00 [40.00, 60.00]", "", ""],
    ]
    assert "- KS: `./run.sh --a b`" in text and "## Environment" in text
    run = json.loads((tmp_path / "results" / "KS" / "run.json").read_text())
    assert run["learning_rates"] == [0.1, 0.01]
    assert [sweep["chosen"] for sweep in run["sweeps"]] == [0.1, 0.01]
    # (80 - 41.38) / (96.66 - 41.38): the only task of SUPERB
    assert capsys.readouterr().out.splitlines()[-1] == "698.6"


def test_a_training_that_no_sweep_chose(arguments, tmp_path):
    """Beside it lies the sweep of another run, with it or without."""
    for name, tried in (("train", {}), ("lr_b", {"lr_b": 0.002})):
        tested = training(tmp_path / name / name, 0.002, lr_a=0.1, **tried)
        score(tmp_path, "KS", 0.8, tested)
        main(["superb", "results", *arguments, "--task", "KS"])
        run = json.loads((tmp_path / "results/KS/run.json").read_text())
        assert (run["learning_rates"], run["sweeps"]) == ([0.002], [])
        assert "| 0.002         | 0 " in (tmp_path / "results/RESULTS.md").read_text()


def test_a_task_of_ones_own_has_no_superb_score(arguments, tmp_path):
    score(tmp_path, "LID", 0.5)
    main(["superb", "results", *arguments, "--task", "LID"])
    assert (tmp_path / "results" / "RESULTS.md").is_file()
    assert not (tmp_path / "results" / "superb_score.md").exists()


def test_a_task_that_was_not_scored(arguments, tmp_path, capsys):
    score(tmp_path, "LID", 0.5)
    with pytest.raises(SystemExit):
        main(["superb", "results", *arguments, "--task", "KS"])
    assert "KS/scores.json: no such file; run the scoring first" in capsys.readouterr().err
    (tmp_path / "results/LID/tested").unlink()
    with pytest.raises(SystemExit):
        main(["superb", "results", *arguments, "--task", "LID"])
    assert "LID/tested: no such file; run the scoring again" in capsys.readouterr().err
