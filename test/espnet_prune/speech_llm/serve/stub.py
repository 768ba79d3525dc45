"""A server that answers as vLLM's does, and takes down what it is asked."""

import base64
import contextlib
import io
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import torch

MODELS = '{"data": [{"id": "served"}]}'


def tensor_of(packed: str) -> torch.Tensor:
    """What a client has packed, as vLLM reads it."""
    return torch.load(io.BytesIO(base64.b64decode(packed, validate=True)), weights_only=True)


def tensor_in(body: dict) -> torch.Tensor:
    """The embeddings of a request."""
    if "prompt_embeds" in body:
        return tensor_of(body["prompt_embeds"])
    return tensor_of(body["messages"][0]["content"][0]["audio_embeds"])


def answer(body: dict, around: int = 0) -> list[dict]:
    """Events of an answer that says how many embeddings there were, in two tokens."""
    number = len(tensor_in(body))
    if "prompt_embeds" in body:
        first = [{"choices": [{"text": f"{number} ", "token_ids": [number]}]}]
        then = {"text": "embeddings", "token_ids": [7]}
    else:
        first = [{"choices": [{"delta": {"role": "assistant", "content": ""}}]}]
        first += [{"choices": [{"delta": {"content": f"{number} "}, "token_ids": [number]}]}]
        then = {"delta": {"content": "embeddings"}, "token_ids": [7]}
    return [
        *first,
        {"choices": [then]},
        {"choices": [], "usage": {"prompt_tokens": number + around}},
    ]


@contextlib.contextmanager
def serving(
    events=answer, models='{"data": [{"id": "served"}]}', status=200, end="data: [DONE]\n\n"
):
    """Yields its address, and the list of (path, body) that it is asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.say(200, models)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            if status != 200:
                self.say(status, json.dumps({"error": {"message": "the prompt is too long"}}))
                return
            lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events(body))
            self.say(200, lines + end)

        def say(self, code, text):
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
