import json

import pytest
import torch

from espnet_prune.bin import ssl_prune_random, ssl_prune_results, ssl_prune_table
from espnet_prune.bin.ssl_prune_results import real_time_factors, score_rows
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


def test_real_time_factor_is_time_over_length(tmp_path):
    encoder = load_encoder(saved("whisper", tmp_path)).eval()
    torch.manual_seed(0)
    ((median, least, greatest),) = real_time_factors([encoder], 0.5, 3)
    assert 0 < least <= median <= greatest


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
