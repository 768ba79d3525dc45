"""A small client of vLLM's OpenAI-compatible server, for pruned prompts."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from espnet_prune.speech_llm.serve.requests import Request

#: greedy answers without penalties, whatever generation config stands beside the model
GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True)
class Answer:
    """What the engine says.

    Args:
        text: without special tokens.
        ids: of the new tokens.
        prompt_tokens: tokens of the prompt by the engine's own count.
        first_token: seconds until the first new token had come; NaN where nobody looked.
    """

    text: str
    ids: tuple[int, ...]
    prompt_tokens: int
    first_token: float


class Client:
    """Asks a server of vLLM that runs the language model (or all) of a speech LLM.

        client = Client("http://127.0.0.1:8000")
        answers = client.ask(requests, max_new_tokens=64)

    Args:
        url: of the server, without /v1.
        model: the name of the model there; the first one that the server lists when absent.
        timeout: seconds to wait for the server's next word.
    ConnectionError: nothing answers there. ValueError: what answers is no such server.
    """

    def __init__(self, url: str, model: str | None = None, timeout: float = 600.0):
        self.url, self.timeout = url.rstrip("/").removesuffix("/v1"), timeout
        self.model = model or self._first_model()

    def ask(
        self,
        requests: Sequence[Request],
        max_new_tokens: int = 64,
        at_once: int = 16,
        **options: Any,
    ) -> list[Answer]:
        """Answers, greedy ones unless `options` say otherwise.

        Args:
            at_once: requests under way at a time; the server makes batches of them.
            options: further sampling parameters of vLLM, e.g. `temperature=0.7`.
        Raises:
            ValueError: the server refuses a request, with what it says; or it counts other tokens
                in a prompt than were sent, since its model or its chat template is another one.
            ConnectionError: it has gone.
        """
        settings = {"max_tokens": max_new_tokens, **GREEDY, **options}
        with ThreadPoolExecutor(max(1, min(at_once, len(requests)))) as pool:
            return list(pool.map(lambda request: self._ask(request, settings), requests))

    def _ask(self, request: Request, settings: dict[str, Any]) -> Answer:
        body = {
            "model": self.model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
            "stop_token_ids": list(request.stops),
            **settings,
            **request.body(),
        }
        start, first = time.perf_counter(), float("nan")
        ids: list[int] = []
        text, counted = "", -1
        for event in self._events(request.path, body):
            for choice in event.get("choices", ()):
                new = choice.get("token_ids") or ()
                if new and not ids:
                    first = time.perf_counter() - start
                ids += new
                text += choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            counted = (event.get("usage") or {}).get("prompt_tokens", counted)
        if counted != request.tokens:
            raise ValueError(
                f"{self.url} counts {counted} tokens in a prompt of {request.tokens}: it serves "
                f"another model ({self.model}), or has another chat template"
            )
        return Answer(text.strip(), tuple(ids), counted, first)

    def _events(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The server-sent events of an answer, each a JSON object."""
        with self._open(path, body) as response, contextlib.suppress(HTTPException):
            for line in response:
                data = line.decode("utf-8").strip().removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                if data:
                    event = self._parsed(data)
                    if "error" in event:
                        raise ValueError(f"{self.url}: {_message(event)}")
                    yield event
        raise ConnectionError(f"{self.url}: the answer has broken off")

    def _first_model(self) -> str:
        with self._open("/v1/models") as response:
            listed = self._parsed(response.read().decode("utf-8", "replace"))
        try:
            return str(listed["data"][0]["id"])
        except (TypeError, IndexError, KeyError):
            raise ValueError(f"{self.url} lists no model: is it vLLM's server?") from None

    def _open(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode("utf-8")
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}
        )
        try:
            return urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            said = error.read().decode("utf-8", "replace")
            raise ValueError(f"{self.url}{path}: {error.code}, {_message(said)}") from None
        except HTTPException as error:
            raise ValueError(f"{self.url}: is no server of vLLM ({error!r})") from None
        except urllib.error.URLError as error:
            raise ConnectionError(
                f"{self.url}: no answer ({error.reason}): start `espnet-prune tokens serve`, and "
                "wait until it says so"
            ) from None

    def _parsed(self, text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"{self.url}: is no server of vLLM: it says {text[:80]!r}")
        return found


def _message(said: Any) -> str:
    """What an error of the server says, of its text or JSON."""
    try:
        found = json.loads(said) if isinstance(said, str) else said
        return str(found["error"]["message"])
    except (ValueError, TypeError, KeyError):
        return str(said)[:500]
