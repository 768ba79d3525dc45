"""The recipe of the compact speech LLM, from a text to a report, with tiny random models."""

import functools
import json
import random
from pathlib import Path

import pytest
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from espnet_prune.speech_llm.compact.model import Compact
from test.espnet_prune.whispers import save_ear
from test.recipes.running import EGS2, run_recipe

RECIPE = EGS2 / "speech_llm" / "compact1"
run = functools.partial(run_recipe, RECIPE)
WORDS = "the a red old small boat house river town sleeps runs waits opens near behind and".split()


def write_models(folder: Path, text: list[str]) -> None:
    """A Whisper and a language model with a tokenizer that knows any text."""
    save_ear(folder / "whisper")
    pieces = ByteLevelBPETokenizer()
    pieces.train_from_iterator(text, vocab_size=400, special_tokens=["<|im_end|>"])
    tokens = PreTrainedTokenizerFast(tokenizer_object=pieces._tokenizer, eos_token="<|im_end|>")
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "lm")
    tokens.save_pretrained(folder / "lm")


@pytest.mark.recipe
@pytest.mark.timeout(600)
def test_all_stages(tmp_path):
    draw = random.Random(0)
    passages = [
        [" ".join(draw.choices(WORDS, k=7)).capitalize() + "." for _ in range(5)] for _ in range(8)
    ]
    write_models(tmp_path, [" ".join(passage) for passage in passages])
    text = tmp_path / "passages.jsonl"
    text.write_text("".join(json.dumps(passage) + "\n" for passage in passages))
    options = ["--debug", "true", "--passages", str(text), "--nj", "1"]
    options += ["--whisper", str(tmp_path / "whisper"), "--language_model", str(tmp_path / "lm")]
    options += ["--speech_args", "--voices en-us --test_voices en-029", "--report_excerpts", "2"]
    for name in ("exp", "dump", "data"):
        options += [f"--{name}dir", str(tmp_path / name)]
    printed = run(*options)
    for stage in (1, *range(3, 8)):
        assert f"Stage {stage}: " in printed
    results = (tmp_path / "exp" / "RESULTS.md").read_text()
    for line in ("word error rate of the ear", "transcript instead", "## Environment"):
        assert line in results
    assert json.loads((tmp_path / "exp" / "RESULTS.json").read_text())["excerpts"] == 2
    Compact.from_pretrained(tmp_path / "exp" / "compact")


@pytest.mark.recipe
def test_wrong_options():
    assert "unknown option --bogus" in run("--bogus", "1", expect=2)
    assert "takes true or false" in run("--debug", "maybe", expect=2)
    assert "--hours takes a number, not 'x'" in run("--hours", "x", expect=2)
