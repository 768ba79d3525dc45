import pytest
import torch

from espnet_prune.speech_llm import SPEECH_LLMS, AudioLLM
from espnet_prune.tokens import TokenPruner
from test.espnet_prune.speech_llm.models import ADAPTERS, RATE, audio_flamingo_3, speech
from test.espnet_prune.speech_llm.scattered import BY_NAME, PROCESSOR


@pytest.fixture(params=["audio_flamingo_3", "phi4"])
def llm(request):
    return ADAPTERS[request.param]()


@torch.no_grad()
@pytest.mark.parametrize("seconds", [2.0, 0.73])
def test_one_chunk_gives_the_logits_of_the_model_and_its_processor(llm, seconds):
    wave = speech(seconds)[0]
    inputs = llm._processed("who wins?", wave.numpy())
    audio = llm.hear(wave, RATE).tokens
    prompts = llm.prompts([audio], ["who wins?"])
    logits = llm.lm(**prompts.inputs).logits
    torch.testing.assert_close(logits, llm.lm(**inputs).logits, atol=1e-5, rtol=1e-5)
    assert len(audio) == int(llm.is_audio(inputs["input_ids"]).sum())


@torch.no_grad()
def test_a_long_recording_is_its_chunks_one_after_another(llm):
    wave = speech(5)[0]
    audio = llm.hear(wave, RATE).tokens
    parts = [llm.hear(part, RATE).tokens for part in wave.split(2 * RATE)]
    torch.testing.assert_close(audio, torch.cat(parts))
    prompts = llm.prompts([audio], ["who wins?"], TokenPruner("speechprune", keep=20))
    assert len(prompts.kept[0]) == 20
    (scores,) = llm.score_choices(prompts, [["red", "green team"]])
    assert scores.shape == (2,) and bool((scores < 0).all())


def test_a_saved_model_loads_under_its_name(tmp_path):
    llm = audio_flamingo_3()
    llm.lm.save_pretrained(tmp_path)
    llm.processor.save_pretrained(tmp_path)
    loaded = SPEECH_LLMS["audio_llm"].from_pretrained(str(tmp_path), dtype="float32")
    wave = speech(1)[0]
    torch.testing.assert_close(loaded.hear(wave, RATE).tokens, llm.hear(wave, RATE).tokens)
    assert (loaded.window, loaded.frame_tokens) == (750, 25)


def test_errors(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ValueError, match="model_type is 'llama', choose from qwen2_audio"):
        AudioLLM.from_pretrained(str(tmp_path))
    gemma = AudioLLM(BY_NAME["Gemma4ForConditionalGeneration"].model(), PROCESSOR)
    with pytest.raises(ValueError, match="generates from ids alone: prune with prune_tokens"):
        gemma.layout("who wins?")
    llm = audio_flamingo_3()
    llm.processor.chat_template = "{{ messages[0].content[1].text }}"
    with pytest.raises(ValueError, match="number of audio inputs|has no place for audio"):
        llm.layout("who wins?")
