"""Take a compact speech LLM that is there, to train its LoRA further."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from espnet_prune.files.writing import write_bytes, write_text
from espnet_prune.speech_llm.compact.lora import load_language_model, lora_parameters, with_lora
from espnet_prune.speech_llm.compact.model import read_compact
from espnet_prune.speech_llm.compact.pieces import Pieces


def write_start(model: Path, language_model: Path, merges: int, pieces: Path, weights: Path) -> int:
    """Write what the stages before the training of LoRA make otherwise.

    Args:
        model: directory of the compact speech LLM.
        language_model: directory of its language model.
        merges: that its pieces were made with.
        pieces: JSON file to write, the tokens that the adapter tells apart.
        weights: file to write, for `init_param` of `SpeechLlmLoraTask`.
    Returns: number of weights.
    Raises:
        FileNotFoundError, ValueError: the model is missing, damaged, or another language model's.
    """
    config, found = read_compact(model)
    state = {name: t.float() for name, t in found.items() if name.startswith("adapter.")}
    lora = lora_parameters(with_lora(load_language_model(language_model)[0], config))
    for number, name in enumerate(lora):  # as SpeechLoraModel holds them
        if f"lora.{name}" not in found:
            raise ValueError(f"{model}: lora.{name} is missing; is {language_model} the model's?")
        state[f"lora.{number}"] = found[f"lora.{name}"].float()
    write_text(pieces, Pieces(merges, config.token_ids).to_json())
    data = io.BytesIO()  # not to the file itself: torch.save writes its name into it
    torch.save(state, data)
    write_bytes(weights, data.getvalue())
    return sum(t.numel() for t in state.values())
