import json

import pytest

from espnet_prune.bin import ssl_prune_random, ssl_prune_results, ssl_prune_table
from espnet_prune.bin.ssl_prune_results import score_rows
from espnet_prune.structure import load_encoder
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
    ssl_prune_random.main(
        ["--teacher", str(tmp_path / "dense"), "--target", "0.4", "--output_dir", f"{exp}/pruned"]
    )
    (exp / "distill").mkdir()
    (exp / "distill" / "valid.jsonl").write_text('{"distill": 9}\n{"distill": 0.125}\n')
    scores(exp / "whisper" / "test" / "scores.json")
    return exp


def test_results(experiment, tmp_path, capsys):
    path = str(experiment / "whisper" / "test" / "scores.json")
    args = ["--dense", str(tmp_path / "dense"), "--exp", str(experiment), "--score", "own", path]
    ssl_prune_results.main([*args, "--seconds", "0.5", "--repeats", "1"])
    text = (experiment / "RESULTS.md").read_text()
    assert text.strip() in capsys.readouterr().out
    assert "| own (7 utterances) | WER % | 10.0 [5.0, 100.0] | 25.0 [12.5, 100.0] |" in text
    assert "+15.0 [+5.0, +30.0]" in text  # pruned minus dense
    size = json.loads((experiment / "results.json").read_text())["size"]
    pruned = load_encoder(experiment / "pruned")
    assert size["pruned"]["parameters"] == sum(p.numel() for p in pruned.parameters())
    assert size["dense"]["parameters"] > size["pruned"]["parameters"]


def test_missing_scores(tmp_path):
    with pytest.raises(FileNotFoundError, match="scores.json: missing; run the scoring stage"):
        score_rows([("own", tmp_path / "scores.json")])


def test_table_puts_seeds_together(experiment, tmp_path, capsys):
    other = tmp_path / "exp_seed1"
    other.symlink_to(experiment)
    score = ["--score", "whisper/test/scores.json"]
    ssl_prune_table.main([str(experiment), str(other), *score, "--output", f"{tmp_path}/T.md"])
    printed = capsys.readouterr().out
    assert "| exp" in printed and "| 2 " in printed
    assert "0.1250 (0.1250 to 0.1250)" in printed and "25.0 (25.0 to 25.0)" in printed
    assert (tmp_path / "T.md").read_text() == printed
    with pytest.raises(SystemExit):
        ssl_prune_table.main([str(tmp_path)])
    assert "missing; run the experiment to its end first" in capsys.readouterr().err


def test_compare(tmp_path, capsys):
    from espnet_prune.bin import ssl_prune_compare

    row = {"sparsity_expected": 0.5, "sparsity_exact": 0.25, "distill": 2.0}
    for name in "ab":
        (tmp_path / name).mkdir()
        rows = [{**row, "update": n, "distill": float(n)} for n in range(4)]
        text = "".join(json.dumps(r) + "\n" for r in rows)
        (tmp_path / name / "updates.jsonl").write_text(text)
    args = ["--run", "first", f"{tmp_path}/a", "--run", "second", f"{tmp_path}/b"]
    ssl_prune_compare.main([*args, "--last", "2", "--output", f"{tmp_path}/plot.png"])
    assert "| first  | 4       | 0.5000            | 0.2500         | 2.5000  |" in (
        capsys.readouterr().out
    )
    assert (tmp_path / "plot.png").stat().st_size > 1000
    with pytest.raises(SystemExit):
        ssl_prune_compare.main(["--run", "x", str(tmp_path), "--output", f"{tmp_path}/p.png"])
    assert "updates.jsonl: missing, or of a run without gates" in capsys.readouterr().err
