import math
import subprocess
import sys

import pytest
import torch

from espnet_prune.speech_llm.serve.client import Client
from espnet_prune.speech_llm.serve.requests import AUDIO_EMBEDS, PROMPT_EMBEDS, Request
from test.espnet_prune.speech_llm.serve import stub


def prompt(number, stops=(3,)):
    embeds = torch.full((number, 4), float(number))
    return Request(PROMPT_EMBEDS, embeds, "who?", torch.arange(2), (), number, stops)


def audio(number, around):
    embeds = torch.full((number, 4), float(number))
    kept, ids = torch.arange(number), tuple(range(around + 1))
    return Request(AUDIO_EMBEDS, embeds, "who wins?", kept, ids, number + around, ())


def test_answers_come_in_the_order_of_the_requests():
    numbers = [5, 9, 2, 7, 4]
    with stub.serving() as (url, asked):
        found = Client(url + "/v1/").ask([prompt(n) for n in numbers], 8, at_once=3)
    assert [answer.text for answer in found] == [f"{n} embeddings" for n in numbers]
    assert [answer.ids for answer in found] == [(n, 7) for n in numbers]
    assert [answer.prompt_tokens for answer in found] == numbers
    assert all(answer.first_token > 0 and math.isfinite(answer.first_token) for answer in found)
    assert {path for path, _ in asked} == {"/v1/completions"}
    for _, body in asked:
        assert body["model"] == "served" and body["stop_token_ids"] == [3]
        assert (body["max_tokens"], body["temperature"], body["repetition_penalty"]) == (8, 0, 1)


def test_a_chat_and_options():
    with stub.serving(lambda body: stub.answer(body, 6)) as (url, asked):
        client = Client(url, "another")
        (answer,) = client.ask([audio(11, 6)], temperature=0.7, seed=1)
    assert (answer.text, answer.ids, answer.prompt_tokens) == ("11 embeddings", (11, 7), 17)
    ((path, body),) = asked
    assert path == "/v1/chat/completions" and body["messages"][0]["role"] == "user"
    assert (body["model"], body["temperature"], body["seed"]) == ("another", 0.7, 1)
    assert torch.equal(stub.tensor_in(body), torch.full((11, 4), 11.0))


def test_another_count_of_the_prompt_is_an_error():
    with stub.serving(lambda body: stub.answer(body, 1)) as (url, _):
        with pytest.raises(ValueError, match="counts 6 tokens in a prompt of 5: it serves another"):
            Client(url).ask([prompt(5)])


def test_what_the_server_says_is_the_error():
    with stub.serving(status=400) as (url, _):
        with pytest.raises(ValueError, match="/v1/completions: 400, the prompt is too long"):
            Client(url).ask([prompt(5)])
    with stub.serving(lambda body: [{"error": {"message": "out of memory"}}]) as (url, _):
        with pytest.raises(ValueError, match="out of memory"):
            Client(url).ask([prompt(5)])


def test_an_answer_that_breaks_off():
    with stub.serving(end="") as (url, _):
        with pytest.raises(ConnectionError, match="broken off"):
            Client(url).ask([prompt(5)])


def test_no_server_or_another_one():
    with pytest.raises(ConnectionError, match="tokens serve"):
        Client("http://127.0.0.1:9", timeout=5)
    for models, message in (("<html>", "no server of vLLM"), ('{"data": []}', "lists no model")):
        with stub.serving(models=models) as (url, _):
            with pytest.raises(ValueError, match=message):
                Client(url)


def test_no_requests():
    with stub.serving() as (url, asked):
        assert Client(url).ask([]) == [] and asked == []


def test_the_client_does_not_import_vllm():
    code = (
        "import sys\nsys.modules['vllm'] = None\n"
        "import espnet_prune.evaluate.serving, espnet_prune.speech_llm.serve.client\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
