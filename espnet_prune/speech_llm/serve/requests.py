"""Pruned prompts as vLLM takes them; nothing here needs vLLM.

There are two ways in. Where vLLM's model takes audio embeddings, it gets the audio tokens that stay
and puts them between the text that it embeds itself. Any other language model gets the embeddings
of the whole prompt, which no model has to know. Positions are contiguous in both.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from espnet_prune.speech_llm.base import SpeechLLM
from espnet_prune.tokens import TokenPruner

#: the ways in, by vLLM's own names
AUDIO_EMBEDS, PROMPT_EMBEDS = "audio_embeds", "prompt_embeds"
#: kinds (`model_type`) of which vLLM takes audio embeddings, and which a test compares with
#: `transformers`; of others it takes prompts
TAKE_AUDIO = frozenset({"qwen2_audio"})


def way_of(llm: SpeechLLM) -> str:
    """`AUDIO_EMBEDS` or `PROMPT_EMBEDS`: how vLLM gets the prompts of a speech LLM."""
    return AUDIO_EMBEDS if llm.lm.config.model_type in TAKE_AUDIO else PROMPT_EMBEDS


@dataclass(frozen=True)
class Request:
    """One prompt for vLLM.

    Args:
        way: `AUDIO_EMBEDS` or `PROMPT_EMBEDS`.
        embeds: on the CPU, (K, D) audio tokens that stay, or (P, D) the prompt.
        question: its text.
        kept: (K,) which audio tokens stay, in time order.
        ids: of the prompt with one placeholder for all of its audio; empty for `PROMPT_EMBEDS`.
        tokens: number of tokens of the prompt.
        stops: ids of tokens that end an answer.
    """

    way: str
    embeds: Tensor
    question: str
    kept: Tensor
    ids: tuple[int, ...]
    tokens: int
    stops: tuple[int, ...]

    def prompt(self) -> dict[str, Any]:
        """What `vllm.LLM.generate` takes."""
        if self.way == PROMPT_EMBEDS:
            return {"prompt_embeds": self.embeds}
        return {"prompt_token_ids": list(self.ids), "multi_modal_data": {"audio": [self.embeds]}}

    @property
    def path(self) -> str:
        """Where vLLM's OpenAI-compatible server takes the `body`."""
        return "/v1/completions" if self.way == PROMPT_EMBEDS else "/v1/chat/completions"

    def body(self) -> dict[str, Any]:
        """The prompt's part of what the server takes as JSON. A chat gets its text around the audio
        from the chat template on the server."""
        packed = packed_tensor(self.embeds)
        if self.way == PROMPT_EMBEDS:
            return {"prompt_embeds": packed}
        content = [
            {"type": "audio_embeds", "audio_embeds": packed},
            {"type": "text", "text": self.question},
        ]
        return {"messages": [{"role": "user", "content": content}]}


def packed_tensor(tensor: Tensor) -> str:
    """A tensor in torch's own format, in base64."""
    buffer = io.BytesIO()
    torch.save(tensor, buffer)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


@torch.no_grad()
def make_requests(
    llm: SpeechLLM,
    audio: Sequence[Tensor],
    questions: Sequence[str],
    pruner: TokenPruner | None = None,
    keys: Sequence[str] | None = None,
) -> list[Request]:
    """Requests for B questions about audio tokens (N_b, D) of `SpeechLLM.hear`; pruned, if there is
    a pruner, as `SpeechLLM.prompts` prunes.

        requests = make_requests(llm, [llm.hear(speech, 16000).tokens], ["who wins?"], pruner)

    ValueError: as `SpeechLLM.prompts`; no audio for a model that takes audio embeddings.
    """
    prompts = llm.prompts(audio, questions, pruner, keys)
    rows = zip(prompts.inputs_embeds, prompts.attention_mask.bool(), strict=True)
    whole = [row[real] for row, real in rows]
    way, stops = way_of(llm), stop_ids(llm)
    found = []
    for b, (row, kept, question) in enumerate(zip(whole, prompts.kept, questions, strict=True)):
        ids: list[int] = []
        embeds = row
        if way == AUDIO_EMBEDS:
            before, after = llm.layout(question)
            if not len(kept):
                raise ValueError(f"prompt {b + 1} of {len(whole)} has no audio for {way}")
            ids = [*before, llm.lm.config.audio_token_id, *after]
            embeds = row[len(before) : len(before) + len(kept)]
        # a copy: what is saved of a part of a tensor is the whole
        embeds = embeds.detach().cpu().clone()
        found.append(Request(way, embeds, question, kept, tuple(ids), len(row), stops))
    return found


def stop_ids(llm: SpeechLLM) -> tuple[int, ...]:
    """Ids that end an answer of `SpeechLLM.generate`."""
    own = getattr(llm.lm.generation_config, "eos_token_id", None)
    stops = llm.stops().get("eos_token_id", own)
    return tuple(stops) if isinstance(stops, list | tuple) else (() if stops is None else (stops,))
