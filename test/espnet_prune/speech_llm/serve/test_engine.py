import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from espnet_prune.extras import MissingExtraError
from espnet_prune.speech_llm import Qwen2Audio
from espnet_prune.speech_llm.serve import engine
from espnet_prune.speech_llm.serve.engine import Engine, server_command, write_language_model
from espnet_prune.speech_llm.serve.requests import AUDIO_EMBEDS, PROMPT_EMBEDS
from test.espnet_prune.speech_llm.models import ADAPTERS, qwen2_audio
from test.espnet_prune.speech_llm.scattered import TINY, TOKENIZER


@torch.no_grad()
@pytest.mark.parametrize("name", ["compact", "qwen2_audio", "diva", "audio_flamingo_3"])
def test_the_language_model_alone_computes_the_same(name, tmp_path):
    llm = ADAPTERS[name]()
    write_language_model(llm, tmp_path / "served")
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "served").eval()
    prompt = torch.randn(1, 9, 24, generator=torch.Generator().manual_seed(3))
    wanted, found = (lm(inputs_embeds=prompt).logits for lm in (llm.lm, alone))
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not any("audio" in key for key in alone.state_dict())
    words = PreTrainedTokenizerFast.from_pretrained(tmp_path / "served")
    assert words("who wins?").input_ids == llm.tokenizer("who wins?").input_ids


@torch.no_grad()
@pytest.mark.parametrize("tiny", TINY, ids=[tiny.name for tiny in TINY])
def test_the_language_model_of_every_family(tiny, tmp_path):
    """It computes the same alone, or is refused by name."""
    llm = SimpleNamespace(lm=tiny.model(), tokenizer=TOKENIZER)
    if tiny.name == "Gemma4ForConditionalGeneration":
        with pytest.raises(ValueError, match="reads the ids of a prompt in every layer"):
            write_language_model(llm, tmp_path / "served")
        return
    write_language_model(llm, tmp_path / "served")
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "served").eval()
    prompt = torch.randn(1, 9, 24, generator=torch.Generator().manual_seed(3))
    wanted, found = (lm(inputs_embeds=prompt).logits for lm in (llm.lm, alone))
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_language_model_that_differs_is_refused_and_not_left_behind(tmp_path, monkeypatch):
    llm = ADAPTERS["compact"]()
    wrong = ADAPTERS["diva"]().lm
    with torch.no_grad():
        wrong.lm_head.weight.mul_(2)
    monkeypatch.setattr(engine.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: wrong)
    with pytest.raises(ValueError, match="computes something else"):
        write_language_model(llm, tmp_path / "served")
    assert list(tmp_path.glob("served*")) == []


def test_a_kind_that_has_no_text_model(tmp_path):
    llm = Qwen2Audio(*qwen2_audio())
    llm.lm.get_decoder().config = llm.lm.config.audio_config
    with pytest.raises(ValueError, match="no text model of kind 'qwen2_audio_encoder'"):
        write_language_model(llm, tmp_path / "served")


def test_the_command_of_a_server():
    assert server_command(PROMPT_EMBEDS, "served", ["--tensor-parallel-size", "2"], "nice py") == [
        *("nice", "py", "-m", "vllm.entrypoints.openai.api_server", "--model", "served"),
        *("--enable-prompt-embeds", "--tensor-parallel-size", "2"),
    ]
    command = server_command(AUDIO_EMBEDS, "qwen")
    assert command[-3:] == ["--enable-mm-embeds", "--limit-mm-per-prompt", '{"audio": 0}']


def test_vllm_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match="tools/test_vllm.sh"):
        Engine(Qwen2Audio(*qwen2_audio()), "somewhere")
