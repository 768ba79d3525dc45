"""The examples in the package's docstrings run, and every public name has one."""

import doctest
import importlib
from pathlib import Path

import pytest

import espnet_prune

ROOT = Path(espnet_prune.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8") and path.name != "__init__.py"
)


def loaded_model() -> dict:
    """What `prune_tokens` is shown with: a model, its processor, a prompt and its audio."""
    from test.espnet_prune.speech_llm.models import qwen2_audio, speech

    model, processor = qwen2_audio()
    audio = "Audio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\n"
    text = f"<|im_start|>user\n{audio}who wins?<|im_end|>\n<|im_start|>assistant\n"
    return {"model": model, "processor": processor, "text": text, "audio": speech(2)[0].numpy()}


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name):
    module = importlib.import_module(name)
    names = loaded_model() if name.endswith("speech_llm.wrap") else {}
    results = doctest.testmod(module, extraglobs=names)
    assert results.attempted and not results.failed


@pytest.mark.parametrize("name", espnet_prune.__all__)
def test_a_public_name_has_an_example(name):
    assert ">>> " in getattr(espnet_prune, name).__doc__
