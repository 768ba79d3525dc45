import json
import shutil

import pytest
import yaml
from matplotlib.axes import Axes

from espnet_prune.cli import main
from espnet_prune.evaluate.pruning_report import score_rows, write_results
from espnet_prune.structured import load_encoder
from test.espnet_prune.tiny import saved


def scores(path, pruned=0.25, dense=0.1):
    path.parent.mkdir(parents=True, exist_ok=True)

    def rate(value):
        return {"errors": 1, "reference_length": 9, "rate": value, "low": value / 2, "high": 1.0}

    difference = {"difference": dense - pruned, "low": -0.3, "high": -0.05, "improvement": 1.0}
    found = {
        "utterances": 7,
        "systems": {
            "hyp": {"wer": rate(pruned), "cer": rate(pruned / 2)},
            "hyp2": {"wer": rate(dense), "cer": rate(dense / 2)},
        },
        "difference": {"wer": difference, "cer": difference},
    }
    path.write_text(json.dumps(found))
    return path


@pytest.fixture
def experiment(tmp_path):
    saved("whisper", tmp_path / "dense")
    exp = tmp_path / "exp"
    main(
        ["encoder", "random", "--teacher", str(tmp_path / "dense"), "--output_dir", f"{exp}/pruned"]
        + ["--", "--pruning_conf", "target=0.4", "--pruning_conf", "cost=macs"]
    )
    shutil.copytree(exp / "pruned", exp / "slim")
    (exp / "distill").mkdir()
    (exp / "distill" / "valid.jsonl").write_text('{"distill": 9}\n{"distill": 0.125}\n')
    scores(exp / "whisper" / "test" / "scores.json")
    return exp


def test_results(experiment, tmp_path, capsys):
    path = str(experiment / "whisper" / "test" / "scores.json")
    args = ["--dense", str(tmp_path / "dense"), "--exp", str(experiment), "--score", "own", path]
    main(["encoder", "results", *args, "--seconds", "0.5", "--repeats", "1"])
    text = (experiment / "RESULTS.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert "| own (7 utterances) | WER % | 10.0 [5.0, 100.0] | 25.0 [12.5, 100.0] |" in text
    assert "+15.0 [+5.0, +30.0]" in text  # pruned minus dense
    assert "Sparsity asked for: 40.00% of the MACs, exact: " in text
    size = json.loads((experiment / "results.json").read_text())["size"]
    pruned = load_encoder(experiment / "pruned")
    assert size["pruned"]["parameters"] == sum(p.numel() for p in pruned.parameters())
    assert size["dense"]["parameters"] > size["pruned"]["parameters"]


def test_model_cards(experiment, tmp_path):
    """Of the encoder and of ASR: what the hub sorts by, and all figures of RESULTS.md."""
    (tmp_path / "asr").mkdir()
    path = str(experiment / "whisper" / "test" / "scores.json")
    text = write_results(
        str(tmp_path / "dense"),
        experiment,
        [("own", path)],
        "./run.sh --target 0.4",
        seconds=0.5,
        repeats=1,
        base_model="openai/whisper-tiny.en",
        license_name="mit",
        repo="me/small",
        asr=tmp_path / "asr",
    )
    for folder, code, tags in (
        (experiment / "pruned", 'load_encoder("me/small")', ["espnet"]),
        (tmp_path / "asr", 'from_pretrained("me/small-asr")', ["automatic-speech-recognition"]),
    ):
        card = (folder / "README.md").read_text()
        _, front, body = card.split("---\n", 2)
        front = yaml.safe_load(front)
        assert front["base_model"] == "openai/whisper-tiny.en" and front["license"] == "mit"
        assert {"espnet_prune", *tags} <= set(front["tags"])
        assert code in body and "Pruned from openai/whisper-tiny.en" in body
        assert "`./run.sh --target 0.4` (one run)" in body and "git commit" in body
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert len(rows) == 7 and all(row in body for row in rows)  # sizes, speed, WER, CER
    assert load_encoder(experiment / "pruned").config.kept  # the card does not get in the way


def test_missing_scores(tmp_path):
    with pytest.raises(FileNotFoundError, match="scores.json: no such file; run the scoring stage"):
        score_rows([("own", tmp_path / "scores.json")])


def test_table_puts_seeds_together(experiment, tmp_path, capsys):
    other = tmp_path / "exp_seed1"
    other.symlink_to(experiment)
    score = ["--score", "whisper/test/scores.json"]
    main(["encoder", "table", str(experiment), str(other), *score, "--output", f"{tmp_path}/T.md"])
    printed = capsys.readouterr().out
    assert "| exp" in printed and "| 2 " in printed
    assert "0.1250 (0.1250 to 0.1250)" in printed and "25.0 (25.0 to 25.0)" in printed
    assert (tmp_path / "T.md").read_text() == printed
    with pytest.raises(SystemExit):
        main(["encoder", "table", str(tmp_path)])
    assert "no such file; run the experiment to its end first" in capsys.readouterr().err


def test_a_line_for_each_method(experiment, tmp_path, monkeypatch):
    sizes = {"ours_0.5": 4.0, "ours_0.5_seed1": 4.0, "ours_0.7": 2.0, "random_0.5": 4.0}
    for name, parameters in sizes.items():
        exp = shutil.copytree(experiment, tmp_path / "all" / f"ssl_prune_{name}")
        summary = json.loads((exp / "pruned/summary.json").read_text())
        summary["parameters"] = parameters * 1e6
        (exp / "pruned/summary.json").write_text(json.dumps(summary))
    (exp.with_name("ssl_prune_ours_0.5_seed1") / "distill/valid.jsonl").write_text(
        '{"distill": 0.375}'
    )
    drawn, draw = {}, Axes.errorbar

    def errorbar(axis, x, y, bars, label, **style):
        drawn[axis.get_subplotspec().num1, label] = (x, y, bars.tolist())
        return draw(axis, x, y, bars, label=label, **style)

    monkeypatch.setattr(Axes, "errorbar", errorbar)
    experiments = [str(tmp_path / "all" / f"ssl_prune_{name}") for name in sizes]
    score = ["--score", "whisper/test/scores.json"]
    main(["encoder", "table", *experiments, *score, "--output", f"{tmp_path}/T.md"])
    assert drawn == {
        (0, "ours"): ([2, 4], [0.125, 0.25], [[0, 0.125], [0, 0.125]]),
        (0, "random"): ([4], [0.125], [[0], [0]]),
        (1, "ours"): ([2, 4], [25, 25], [[0, 0], [0, 0]]),
        (1, "random"): ([4], [25], [[0], [0]]),
    }
    assert (tmp_path / "T.png").read_bytes().startswith(b"\x89PNG")


def test_compare(tmp_path, capsys):
    row = {"sparsity_expected": 0.5, "sparsity_exact": 0.25, "distill": 2.0}
    for name in "ab":
        (tmp_path / name).mkdir()
        rows = [{**row, "update": n, "distill": float(n)} for n in range(4)]
        text = "".join(json.dumps(r) + "\n" for r in rows)
        (tmp_path / name / "updates.jsonl").write_text(text)
    args = ["--run", "first", f"{tmp_path}/a", "--run", "second", f"{tmp_path}/b"]
    main(["encoder", "compare", *args, "--last", "2", "--output", f"{tmp_path}/plot.png"])
    assert "| first  | 4       | 0.5000            | 0.2500         | 2.5000  |" in (
        capsys.readouterr().out
    )
    assert (tmp_path / "plot.png").stat().st_size > 1000
    with pytest.raises(SystemExit):
        main(["encoder", "compare", "--run", "x", str(tmp_path), "--output", f"{tmp_path}/p.png"])
    assert "updates.jsonl: missing, or of a run without gates" in capsys.readouterr().err
