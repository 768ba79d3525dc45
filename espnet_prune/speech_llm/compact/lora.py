"""The language model of the compact speech LLM, and LoRA in its attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from espnet_prune.extras import load_extra

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj"]


def with_lora(lm: Any, rank: int, alpha: float) -> Any:
    """The language model, frozen, with LoRA (arXiv 2106.09685) in all attention projections.

    Returns: a `peft` model around `lm`, which is changed in place.
    """
    peft = load_extra("peft", "speech-llm")
    lora = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=MODULES, task_type="CAUSAL_LM")
    return peft.get_peft_model(lm, lora)


def lora_parameters(model: Any) -> dict[str, nn.Parameter]:
    """The LoRA weights of a `peft` model, by names of the language model's own modules."""
    return {
        name.removeprefix("base_model.model.").replace(".default.", "."): parameter
        for name, parameter in model.named_parameters()
        if ".lora_" in name
    }


def load_language_model(directory: str | Path) -> tuple[Any, Any]:
    """A causal language model in float32 and evaluation mode, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lm = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="sdpa"
    )
    return lm.eval(), AutoTokenizer.from_pretrained(directory)
