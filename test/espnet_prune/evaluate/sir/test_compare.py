import pytest

from espnet_prune.cli import main
from espnet_prune.evaluate.sir.answers import Answer, AnswerFile
from espnet_prune.evaluate.sir.conditions import NOTHING, WHOLE

HEADER = {"token_pruner_conf": {}, "prompt": "{question}", "seed": 0, "data_dir": "d"}
#: of eight items, by the likeliest choice: answers of two models
RIGHT = {"dense": [1, 1, 1, 1, 1, 1, 0, 0], "pruned": [1, 1, 1, 1, 0, 0, 0, 1]}


def write(folder, name, header=HEADER):
    """Without audio all choices are as likely, so that PMI decides as the likelihood does."""
    answers = []
    for n, right in enumerate(RIGHT[name]):
        scores = (-1.0, -2.0) if right else (-2.0, -1.0)
        answers.append(Answer(f"i{n}", WHOLE, 8.0, 200, (), (0, 1), scores, 0))
        answers.append(Answer(f"i{n}", NOTHING, 8.0, 0, (), (0, 1), (-1.0, -1.0), 0))
    AnswerFile(folder / name / "answers.1.jsonl", header).add(answers)
    return ["--answers", name, str(folder / name)]


def test_differences_are_paired_and_from_the_first(tmp_path, capsys):
    main(["sir", "compare", *write(tmp_path, "dense"), *write(tmp_path, "pruned")])
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    (dense,) = (row for row in cells if row[:2] == ["whole recording", "dense"])
    (pruned,) = (row for row in cells if row[:2] == ["whole recording", "pruned"])
    assert dense[2].startswith("75.0 [") and dense[3] == ""
    # two lost, one gained: 2 * P(at most one of three) = 1
    assert pruned[2].startswith("62.5 [") and pruned[3].startswith("-12.5 [")
    assert pruned[3].endswith("p 1") and pruned[4:] == pruned[2:4]
    (none,) = (row for row in cells if row[:2] == ["no audio", "pruned"])
    assert none[4:] == ["", ""]


def test_what_cannot_be_compared(tmp_path, capsys):
    dense = write(tmp_path, "dense")
    other = write(tmp_path, "pruned", {**HEADER, "seed": 1})
    for options, message in (
        (dense, "--answers: give two or more, each with a name of its own"),
        ([*dense, *dense], "--answers: give two or more, each with a name of its own"),
        ([*dense, *other], f"{tmp_path}/pruned: seed is not that of {tmp_path}/dense"),
        ([*dense, "--answers", "x", str(tmp_path / "x")], f"{tmp_path}/x: no answers in it"),
    ):
        with pytest.raises(SystemExit):
            main(["sir", "compare", *options])
        assert message in capsys.readouterr().err
