import json

import pytest
import torch

from espnet_prune.speech_llm import AudioLLM, Qwen2Audio
from espnet_prune.speech_llm.serve.requests import (
    AUDIO_EMBEDS,
    PROMPT_EMBEDS,
    make_requests,
    way_of,
)
from espnet_prune.tokens import TokenPruner
from test.espnet_prune.speech_llm.models import ADAPTERS, RATE, qwen2_audio, speech
from test.espnet_prune.speech_llm.serve.stub import tensor_of

QUESTIONS = ["who wins?", "what is said here: one, two?", "wait until Monday?"]
PRUNER = TokenPruner("speechprune", rate=0.5, window=50)


@pytest.fixture(scope="module")
def llm():
    return Qwen2Audio(*qwen2_audio())


def hear(llm, *seconds):
    return [llm.hear(wave, RATE).tokens for wave in speech(*seconds)]


@pytest.mark.parametrize("pruner", [None, PRUNER])
def test_a_model_that_takes_audio_gets_its_tokens_and_the_text_around_them(llm, pruner):
    audio = hear(llm, 3.3, 0.7, 5.0)
    kept = llm.prompts(audio, QUESTIONS, pruner).kept
    for b, request in enumerate(make_requests(llm, audio, QUESTIONS, pruner)):
        before, after = llm.layout(QUESTIONS[b])
        assert request.way == AUDIO_EMBEDS and request.path == "/v1/chat/completions"
        assert torch.equal(request.embeds, audio[b][kept[b]]) and request.kept.equal(kept[b])
        placeholder = llm.tokenizer.convert_tokens_to_ids("<|AUDIO|>")
        assert list(request.ids) == [*before, placeholder, *after]
        assert request.tokens == len(before) + len(kept[b]) + len(after)
        prompt = request.prompt()
        assert prompt["prompt_token_ids"] == list(request.ids)
        (handed,) = prompt["multi_modal_data"]["audio"]
        assert handed is request.embeds
        sound, text = request.body()["messages"][0]["content"]
        assert torch.equal(tensor_of(sound["audio_embeds"]), request.embeds)
        assert text == {"type": "text", "text": QUESTIONS[b]}


def test_the_text_of_a_chat_is_that_of_the_layout(llm):
    """The server makes it of its chat template, from parts of the kind `audio`."""
    content = [{"type": "audio"}, {"type": "text", "text": QUESTIONS[0]}]
    chat = [{"role": "user", "content": content}]
    text = llm.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    (request,) = make_requests(llm, hear(llm, 1.0), QUESTIONS[:1])
    assert llm.tokenizer(text, add_special_tokens=False).input_ids == list(request.ids)


@pytest.mark.parametrize("name", ["compact", "diva", "plain", "audio_flamingo_3", "phi4"])
@pytest.mark.parametrize("pruner", [None, TokenPruner("uniform", rate=0.5)])
def test_any_other_gets_the_whole_prompt(name, pruner):
    llm = ADAPTERS[name]()
    audio = hear(llm, 3.3, 0.7)
    for b, request in enumerate(make_requests(llm, audio, QUESTIONS[:2], pruner)):
        alone = llm.prompts([audio[b]], [QUESTIONS[b]], pruner)
        assert request.way == PROMPT_EMBEDS and request.path == "/v1/completions"
        assert torch.equal(request.embeds, alone.inputs_embeds[0])  # without padding
        assert request.tokens == len(request.embeds) and request.ids == ()
        assert request.kept.equal(alone.kept[0])
        assert torch.equal(tensor_of(request.body()["prompt_embeds"]), request.embeds)
        assert request.prompt()["prompt_embeds"] is request.embeds


def test_what_is_sent_is_no_larger_than_what_stays(llm):
    pruners = None, TokenPruner("uniform", keep=10)
    requests = [make_requests(llm, hear(llm, 5.0), QUESTIONS[:1], p)[0] for p in pruners]
    whole, pruned = (len(json.dumps(request.body())) for request in requests)
    saved = torch.zeros(115, 24).nbytes * 4 / 3  # base64; 5 s have 125 tokens
    assert whole - pruned == pytest.approx(saved, rel=0.02)


def test_ends_of_an_answer():
    llm = ADAPTERS["compact"]()
    (request,) = make_requests(llm, hear(llm, 1.0), QUESTIONS[:1])
    assert request.stops == (llm.tokenizer.eos_token_id,)  # of `stops`
    model, processor = qwen2_audio()
    for ends, stops in ((None, ()), (5, (5,)), ([5, 6], (5, 6))):
        model.generation_config.eos_token_id = ends
        llm = Qwen2Audio(model, processor)
        assert make_requests(llm, hear(llm, 1.0), QUESTIONS[:1])[0].stops == stops


def test_the_way_is_that_of_the_model_and_not_of_the_adapter():
    assert way_of(AudioLLM(*qwen2_audio())) == AUDIO_EMBEDS


def test_errors(llm):
    audio = hear(llm, 1.0)
    with pytest.raises(ValueError, match="prompt 2 of 2 has no audio for audio_embeds"):
        make_requests(llm, [*audio, llm.empty_audio()], QUESTIONS[:2])
    with pytest.raises(ValueError, match="1 recordings, but 2 questions"):
        make_requests(llm, audio, QUESTIONS[:2])
    with pytest.raises(ValueError, match="special token"):
        make_requests(llm, audio, ["who <|AUDIO|> wins?"])
