"""`espnet-prune tokens serve` and `ask`: a speech LLM whose language model vLLM's server runs."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_prune.data.audio import load_speech
from espnet_prune.evaluate.sir import conditions
from espnet_prune.evaluate.speech_llms import kind_of, load_speech_llm, model_mark
from espnet_prune.speech_llm.serve.client import Client
from espnet_prune.speech_llm.serve.engine import MADE_OF, server_command, write_language_model
from espnet_prune.speech_llm.serve.requests import (
    AUDIO_EMBEDS,
    PROMPT_EMBEDS,
    TAKE_AUDIO,
    make_requests,
)
from espnet_prune.structured.encoder import read_model_config

logger = logging.getLogger(__name__)


def serve(
    speech_llm: str,
    speech_llm_conf: Mapping[str, Any] | None,
    directory: Path,
    python: str,
    options: Sequence[str],
) -> None:
    """Become vLLM's server (ValueError, OSError: as `served_model`; no such Python)."""
    way, model = served_model(speech_llm, speech_llm_conf or {}, directory)
    command = server_command(way, model, options, python)
    logger.info("%s", " ".join(command))
    os.execvp(command[0], command)


def served_model(name: str, conf: Mapping[str, Any], directory: Path) -> tuple[str, str]:
    """How vLLM gets the prompts of a speech LLM, and the directory or hub name that it loads.

    Where it takes prompts, that is `directory`, which gets the language model, unless an earlier
    run has written it. ValueError: it was written of another speech LLM, and as `load_speech_llm`
    and `write_language_model`.
    """
    kind_of(name)
    own = conf.get("model")
    if name in ("qwen2_audio", "audio_llm") and own is not None:
        if read_model_config(str(own)).get("model_type") in TAKE_AUDIO:
            return AUDIO_EMBEDS, str(own)
    made_of, mark = f"{name} {model_mark(conf)}\n", directory / MADE_OF
    if not directory.exists():
        write_language_model(load_speech_llm(name, conf), directory, made_of)
    elif not mark.is_file() or mark.read_text(encoding="utf-8") != made_of:
        raise ValueError(
            f"{directory}: was not written of this speech LLM as it is now: remove it, or give "
            "another --directory"
        )
    return PROMPT_EMBEDS, str(directory)


def ask(
    audio: Sequence[str],
    question: Sequence[str],
    url: str,
    speech_llm: str,
    speech_llm_conf: Mapping[str, Any] | None,
    token_pruner: str,
    token_pruner_conf: Mapping[str, Any] | None,
    max_new_tokens: int,
) -> Iterator[str]:
    """Lines of JSON: what the server answers to each recording.

    ValueError, OSError: questions that do not match; audio that cannot be read; and as
    `load_speech_llm`, `make_requests` and `Client`.
    """
    questions = list(question) * (len(audio) if len(question) == 1 else 1)
    if len(questions) != len(audio):
        raise ValueError(f"{len(audio)} recordings, but {len(questions)} questions")
    conf = token_pruner_conf or {}
    pruner = conditions.pruner(conditions.single(token_pruner, conf), conf)
    client = Client(url)
    llm = load_speech_llm(speech_llm, speech_llm_conf or {})
    # the server has the others; pruning reads the first one
    del llm.lm.get_decoder().layers[1:]
    fs = llm.sampling_rate
    heard = [llm.hear(load_speech(Path(path), fs), fs).tokens for path in audio]
    requests = make_requests(llm, heard, questions, pruner, audio)
    answers = client.ask(requests, max_new_tokens)
    for path, tokens, request, answer in zip(audio, heard, requests, answers, strict=True):
        row = {
            "audio": path,
            "answer": answer.text,
            "audio_tokens": len(tokens),
            "kept_tokens": len(request.kept),
            "prompt_tokens": answer.prompt_tokens,
            "seconds_to_first_token": round(answer.first_token, 3),
        }
        yield json.dumps(row, ensure_ascii=False)
