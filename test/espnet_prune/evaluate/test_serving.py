import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_prune.cli import main
from espnet_prune.data.audio import write_speech
from espnet_prune.evaluate.serving import served_model
from espnet_prune.speech_llm.serve.requests import AUDIO_EMBEDS, PROMPT_EMBEDS
from test.espnet_prune.speech_llm.models import RATE, audio_flamingo_3, qwen2_audio, speech
from test.espnet_prune.speech_llm.serve import stub


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "qwen"
    for part in qwen2_audio():
        part.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def flamingo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "flamingo"
    llm = audio_flamingo_3()
    for part in (llm.lm, llm.processor):
        part.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for name, wave in zip("ab", speech(5.0, 3.3), strict=True):
        write_speech(folder / f"{name}.wav", wave.numpy(), RATE)
    return [str(folder / "a.wav"), str(folder / "b.wav")]


def served(name, model, *options):
    """What `tokens serve` starts, without a server."""
    code = "import sys; print(sys.argv[1:])"
    python = f"{sys.executable} -c '{code}'"
    command = [sys.executable, "-m", "espnet_prune", "tokens", "serve", "--speech_llm", name]
    command += ["--speech_llm_conf", f"model={model}", "--python", python, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_that_takes_audio_is_served_as_it_is(qwen, tmp_path):
    for name in ("qwen2_audio", "audio_llm"):
        assert served_model(name, {"model": qwen}, tmp_path / "served") == (AUDIO_EMBEDS, qwen)
    assert not (tmp_path / "served").exists()
    command = served("qwen2_audio", qwen, "--", "--port", "8001", "--tensor-parallel-size", "2")
    assert f"'--model', '{qwen}', '--enable-mm-embeds'" in command
    assert command.endswith("'--port', '8001', '--tensor-parallel-size', '2']\n")


def test_the_language_model_of_any_other_is_written_once(flamingo, qwen, tmp_path):
    directory, conf = tmp_path / "served", {"model": flamingo}
    for _ in range(2):
        found = served_model("audio_llm", conf, directory)
        assert found == (PROMPT_EMBEDS, str(directory))
        (directory / "README.md").touch()  # is there the second time: nothing was written again
    assert json.loads((directory / "config.json").read_text())["model_type"] == "qwen2"
    other = {"model": flamingo, "dtype": "bfloat16"}
    for name, changed in (("diva", conf), ("audio_llm", other)):
        with pytest.raises(ValueError, match="was not written of this speech LLM as it is now"):
            served_model(name, changed, directory)


def test_a_speech_llm_that_was_trained_again_is_not_served_as_it_was(flamingo, tmp_path):
    directory, weights = tmp_path / "served", Path(flamingo) / "model.safetensors"
    served_model("audio_llm", {"model": flamingo}, directory)
    then = weights.stat().st_mtime_ns
    os.utime(weights, ns=(then, then + 1))
    with pytest.raises(ValueError, match="was not written of this speech LLM as it is now"):
        served_model("audio_llm", {"model": flamingo}, directory)


def test_an_unknown_speech_llm(tmp_path):
    with pytest.raises(ValueError, match="speech_llm is 'qwen', choose from"):
        served_model("qwen", {}, tmp_path)


def asked(capsys, url, model, recordings, *options):
    main(
        [
            *("tokens", "ask", *recordings, "--url", url, "--speech_llm", "audio_llm"),
            *("--speech_llm_conf", f"model={model}", "--question", *options),
        ]
    )
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_ask(flamingo, recordings, capsys):
    pruner = ["--token_pruner", "speechprune", "--token_pruner_conf", "keep=20"]
    with stub.serving() as (url, bodies):
        whole = asked(capsys, url, flamingo, recordings, "who wins?")
        pruned = asked(capsys, url, flamingo, recordings, "who wins?", "one?", *pruner)
    assert [row["audio"] for row in whole] == [row["audio"] for row in pruned] == recordings
    for all_of_it, part in zip(whole, pruned, strict=True):
        assert all_of_it["kept_tokens"] == all_of_it["audio_tokens"] == part["audio_tokens"] > 40
        assert part["kept_tokens"] == 20
        assert part["answer"] == f"{part['prompt_tokens']} embeddings"
    dropped = whole[0]["audio_tokens"] - 20
    assert whole[0]["prompt_tokens"] - pruned[0]["prompt_tokens"] == dropped
    assert len(bodies) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a?", "b?", "c?"], "2 recordings, but 3 questions"),
        (["a?", "--token_pruner", "prune"], "strategy"),
        (["a?", "--token_pruner_conf", "ratio=1"], "unknown key 'ratio'"),
    ],
)
def test_errors(qwen, recordings, options, message, capsys):
    with pytest.raises(SystemExit):
        asked(capsys, "http://127.0.0.1:9", qwen, recordings, *options)
    assert message in capsys.readouterr().err


def test_no_server(qwen, recordings, capsys):
    with pytest.raises(SystemExit):
        asked(capsys, "http://127.0.0.1:9", qwen, recordings, "who wins?")
    assert "start `espnet-prune tokens serve`" in capsys.readouterr().err
