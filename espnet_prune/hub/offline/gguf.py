"""Writes a language model in GGUF as a transformers directory."""

from __future__ import annotations

from pathlib import Path

from espnet_prune.extras import load_extra


def convert_language_model(folder: Path, target: Path) -> None:
    """Convert the only GGUF file of a folder; quantised weights are spelled out in float16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    load_extra("gguf", "speech-llm")  # what transformers reads the file with
    (file,) = folder.glob("*.gguf")
    quantised = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file.name, trust_remote_code=False
    )
    # A new model of the same architecture: one that was read from GGUF cannot be saved
    config = type(quantised.config)(
        **{k: v for k, v in quantised.config.to_dict().items() if k != "quantization_config"}
    )
    model = type(quantised)(config).to(torch.float16)
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(
        folder, gguf_file=file.name, trust_remote_code=False
    ).save_pretrained(target)
