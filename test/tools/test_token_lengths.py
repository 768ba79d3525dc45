import json

import pytest
import token_lengths
import torch

from espnet_prune.structured.cost.measure import peak_memory_of


def test_table_json_and_plot(tmp_path, capsys):
    options = ["--speech_llm", "compact", "--minutes", "2", "0.5", "--min_seconds", "0.2"]
    options += ["--strategies", "speechprune", "uniform", "--rate", "0.6"]
    output, plot = tmp_path / "growth.json", tmp_path / "images" / "growth.png"
    token_lengths.main([*options, "--output", str(output), "--plot", str(plot)])
    printed = capsys.readouterr().out
    assert (
        "| strategy    | 0.5 min" in printed
        and "the 3000 tokens of the longest themselves are 7 MB" in printed
    )
    rows = json.loads(output.read_text())["growth"]
    assert [(r["strategy"], r["audio_tokens"], r["kept_tokens"]) for r in rows] == [
        ("speechprune", 750, 300),
        ("speechprune", 3000, 300),
        ("uniform", 750, 300),
        ("uniform", 3000, 300),
    ]
    assert all(min(r["seconds"]) > 0 and min(r["processor_seconds"]) >= 0 for r in rows)
    assert all(len(r["seconds"]) == len(r["processor_seconds"]) for r in rows)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_what_takes_long_runs_once(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(token_lengths.TokenPruner, "__call__", lambda *_, **__: calls.append(1))
    now = iter(range(100))
    monkeypatch.setattr("espnet_prune.evaluate.measuring.time.perf_counter", lambda: next(now))
    options = ["--speech_llm", "compact", "--minutes", "0.5", "--strategies", "crop"]
    token_lengths.main([*options, "--min_seconds", "0.1"])
    assert len(calls) == 1
    calls.clear()
    token_lengths.main([*options, "--min_seconds", "2"])
    assert len(calls) == 1 + 2  # one warms up


def test_diva_has_its_own_tokens(tmp_path, capsys):
    options = ["--speech_llm", "diva", "--minutes", "0.5", "2", "--min_seconds", "0.01"]
    output = tmp_path / "growth.json"
    token_lengths.main([*options, "--strategies", "crop", "--rate", "0.5", "--output", str(output)])
    assert "448 tokens in 30 s" in capsys.readouterr().out
    rows = json.loads(output.read_text())["growth"]
    assert [(r["audio_tokens"], r["kept_tokens"]) for r in rows] == [(448, 224), (1792, 224)]


def test_peak_is_what_a_call_takes_beyond_what_was_there():
    held = torch.ones(8_000_000)  # 32 MB, there before
    peak = peak_memory_of(lambda: (held + 1.0).sum(), "cpu")
    assert peak == pytest.approx(32e6, rel=0.15)
    again = peak_memory_of(lambda: (held + 1.0).sum(), "cpu")
    assert again == pytest.approx(32e6, rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", "0"], "--minutes has 0, but has to be more than 0"),
        (["--rate", "1.0"], "rate is 1.0, but has to be in [0, 1)"),
        (["--min_seconds", "0"], "--min_seconds is 0, but has to be more than 0"),
        (["--query_tokens", "0"], "--query_tokens is 0"),
    ],
)
def test_errors(options, message, capsys):
    with pytest.raises(SystemExit):
        token_lengths.main(options)
    assert message in capsys.readouterr().err
