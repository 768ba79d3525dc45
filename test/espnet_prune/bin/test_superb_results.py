import json

import pytest

from espnet_prune.bin import superb_results
from espnet_prune.bin.score_output import write_scores
from test.espnet_prune.tiny import saved


@pytest.fixture
def arguments(tmp_path):
    """Of an encoder and a results directory without scores."""
    encoder = saved("wavlm-base", tmp_path / "wavlm")
    args = ["--results_dir", str(tmp_path / "results"), "--upstream", str(encoder)]
    return [*args, "--exp", str(tmp_path / "exp"), "--command", "./run.sh --a b"]


def score(tmp_path, task, value):
    metric = {"value": value, "low": value - 0.1, "high": value + 0.1}
    write_scores(tmp_path / "results" / task, {"accuracy": metric})


def test_all_tasks_of_the_directory(arguments, tmp_path, capsys):
    score(tmp_path, "KS", 0.8)
    score(tmp_path, "LID", 0.5)
    for fold, rate in (("fold1", 0.1), ("fold2", 0.01)):
        (tmp_path / "exp" / fold).mkdir(parents=True)
        sweep = {"criterion": "valid.acc.max", "chosen": rate, "trainings": []}
        (tmp_path / "exp" / fold / "learning_rates.json").write_text(json.dumps(sweep))
    superb_results.main([*arguments, "--task", "KS", "--seed", "2"])
    text = (tmp_path / "results" / "RESULTS.md").read_text()
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    assert rows[2:] == [
        ["KS", "accuracy", "80.00 [70.00, 90.00]", "0.01 (chosen), 0.1 (chosen)", "2"],
        ["LID", "accuracy", "50.00 [40.00, 60.00]", "the config's", ""],
    ]
    assert "- KS: `./run.sh --a b`" in text and "## Environment" in text
    run = json.loads((tmp_path / "results" / "KS" / "run.json").read_text())
    assert [sweep["chosen"] for sweep in run["sweeps"]] == [0.1, 0.01]
    # (80 - 41.38) / (96.66 - 41.38): the only task of SUPERB
    assert capsys.readouterr().out.splitlines()[-1] == "698.6"


def test_a_task_of_ones_own_has_no_superb_score(arguments, tmp_path):
    score(tmp_path, "LID", 0.5)
    superb_results.main([*arguments, "--task", "LID"])
    assert (tmp_path / "results" / "RESULTS.md").is_file()
    assert not (tmp_path / "results" / "superb_score.md").exists()


def test_a_task_that_was_not_scored(arguments, tmp_path, capsys):
    score(tmp_path, "LID", 0.5)
    with pytest.raises(SystemExit):
        superb_results.main([*arguments, "--task", "KS"])
    assert "KS/scores.json: no such file; run the scoring first" in capsys.readouterr().err
