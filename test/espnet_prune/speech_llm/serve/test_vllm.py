"""vLLM gives the tokens that `transformers` gives, offline and through its server.

Needs the package vllm, which pins another torch than ESPnet has: tools/test_vllm.sh runs this file
in an environment of its own.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from espnet_prune.cli import main
from espnet_prune.data.audio import load_speech, write_speech
from espnet_prune.speech_llm import Qwen2Audio
from espnet_prune.speech_llm.serve.client import Client
from espnet_prune.speech_llm.serve.engine import Engine, server_command, write_language_model
from espnet_prune.speech_llm.serve.requests import make_requests, way_of
from espnet_prune.tokens import TokenPruner
from test.espnet_prune.speech_llm.models import RATE, compact, qwen2_audio, speech

pytest.importorskip("vllm", reason="vllm is not installed; see tools/test_vllm.sh")
pytestmark = pytest.mark.timeout(3000)  # an engine needs a minute to start, on busy cores many

#: vLLM's CPU kernels know heads of 32 numbers and more
WIDTH = 128
QUESTIONS = ["who wins?", "what is said here: one, two?", "wait until Monday?", "who is red?"]
#: 20 recordings of 0.5 to 38.5 s: the longest has 20 chunks of the tiny models
SECONDS = [0.5 + 2 * n for n in range(20)]
PRUNERS = {"whole": None, "speechprune": TokenPruner("speechprune", rate=0.6, window=50)}
NEW_TOKENS = 8
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
OPTIONS = {"dtype": "float32", "enforce_eager": True, "max_model_len": 2048}


@pytest.fixture(scope="module", autouse=True)
def environment():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


def as_published(weights):
    """The names of the published Qwen2-Audio: some versions of `transformers` write model twice."""
    found = load_file(weights)
    twice, once = "language_model.model.model.", "language_model.model."
    renamed = {name.replace(twice, once): value for name, value in found.items()}
    save_file(renamed, weights, {"format": "pt"})


class Case:
    """A tiny random speech LLM, what vLLM loads of it, and answers of `transformers`."""

    def __init__(self, name, folder):
        self.directory = folder / "served"
        if name == "qwen2_audio":
            model, processor = qwen2_audio(2, WIDTH)
            model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
            self.llm = Qwen2Audio(model, processor)
            for part in (model, processor):
                part.save_pretrained(self.directory)
            as_published(self.directory / "model.safetensors")
        else:
            self.llm = compact(2, WIDTH)
            write_language_model(self.llm, self.directory)
        self.waves = speech(*SECONDS)
        questions = [QUESTIONS[n % len(QUESTIONS)] for n in range(len(SECONDS))]
        audio = [self.llm.hear(wave, RATE).tokens for wave in self.waves]
        self.requests, self.wanted = {}, {}
        for name, pruner in PRUNERS.items():
            self.requests[name] = make_requests(self.llm, audio, questions, pruner)
            self.wanted[name] = [
                self.answer(tokens, question, pruner, b)
                for b, (tokens, question) in enumerate(zip(audio, questions, strict=True))
            ]

    @torch.no_grad()
    def answer(self, tokens, question, pruner, key):
        """Ids of the greedy answer to one prompt, and its length."""
        prompts = self.llm.prompts([tokens], [question], pruner, [key])
        options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0}
        ids = self.llm.lm.generate(**prompts.inputs, **options, **self.llm.stops())
        return ids[0].tolist(), prompts.inputs_embeds.shape[1]

    def check(self, name, answers):
        """Answers to all requests of a pruner are those of `transformers`."""
        for answer, (ids, length) in zip(answers, self.wanted[name], strict=True):
            assert list(answer.ids) == ids
            assert answer.prompt_tokens == length
        assert len({answer.ids for answer in answers}) > 5  # they depend on what was heard


@pytest.fixture(scope="module", params=["qwen2_audio", "compact"])
def case(request, tmp_path_factory):
    return Case(request.param, tmp_path_factory.mktemp(request.param))


@contextlib.contextmanager
def started(command, port):
    """A server of vLLM that answers."""
    server = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, start_new_session=True)
    try:
        while True:
            assert server.poll() is None, "the server has ended"
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def server(case):
    """Address of a server, started by the command for Qwen2-Audio."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    options += ["--enforce-eager", "--max-model-len", "2048"]
    if isinstance(case.llm, Qwen2Audio):
        command = [sys.executable, "-m", "espnet_prune", "tokens", "serve", "--speech_llm"]
        command += ["qwen2_audio", "--speech_llm_conf", f"model={case.directory}"]
        command += ["--python", sys.executable, "--", *options]
    else:
        command = server_command(way_of(case.llm), case.directory, options, sys.executable)
    with started(command, port) as url:
        yield url


def test_offline(case):
    engine = Engine(case.llm, case.directory, **OPTIONS)
    for name, requests in case.requests.items():
        case.check(name, engine.ask(requests, NEW_TOKENS))


def test_server(case, server):
    client = Client(server)
    counts = {}
    for name, requests in case.requests.items():
        answers = client.ask(requests, NEW_TOKENS)
        case.check(name, answers)
        assert all(answer.first_token > 0 for answer in answers)
        counts[name] = [answer.prompt_tokens for answer in answers]
    # pruned prompts are shorter by the server's own count
    for n, request in enumerate(case.requests["whole"]):
        dropped = len(request.kept) - len(case.requests["speechprune"][n].kept)
        assert counts["whole"][n] - counts["speechprune"][n] == dropped > 0


def test_what_the_server_refuses(case, server):
    client = Client(server)
    (request, *_) = case.requests["whole"]
    wide = torch.zeros(len(request.embeds), WIDTH + 1)
    with pytest.raises(ValueError, match="400"):
        client.ask([replace(request, embeds=wide)])
    with pytest.raises(ValueError, match="2048"):
        client.ask([replace(request, embeds=torch.zeros(5000, WIDTH))])
    with pytest.raises(ValueError, match="404"):
        Client(server, "another").ask([request])


def test_the_command_asks(case, server, tmp_path, capsys):
    if not isinstance(case.llm, Qwen2Audio):
        pytest.skip("the tiny compact model has no directory of its own")
    for n in (2, 7):
        write_speech(tmp_path / f"{n}.wav", case.waves[n].numpy(), RATE)
    main(
        [
            *("tokens", "ask", str(tmp_path / "2.wav"), str(tmp_path / "7.wav"), "--url", server),
            *("--question", QUESTIONS[2], QUESTIONS[3], "--max_new_tokens", str(NEW_TOKENS)),
            *("--speech_llm", "qwen2_audio", "--speech_llm_conf", f"model={case.directory}"),
            *("--speech_llm_conf", "dtype=float32", "--token_pruner", "speechprune"),
            *("--token_pruner_conf", "rate=0.6", "--token_pruner_conf", "window=50"),
        ]
    )
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for row, n, question in zip(rows, (2, 7), QUESTIONS[2:], strict=True):
        wave = load_speech(tmp_path / f"{n}.wav")  # rounded to 16 bits
        tokens = case.llm.hear(wave, RATE).tokens
        ids, length = case.answer(tokens, question, PRUNERS["speechprune"], n)
        assert row["answer"] == case.llm.tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert (row["audio_tokens"], row["kept_tokens"]) == (len(tokens), 20)
        assert row["prompt_tokens"] == length
