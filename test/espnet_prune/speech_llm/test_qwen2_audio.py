import pytest
import torch

from espnet_prune.speech_llm import SPEECH_LLMS, Qwen2Audio
from espnet_prune.tokens import TokenPruner
from test.espnet_prune.speech_llm.models import RATE, qwen2_audio, speech

TEXT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "Audio 1: <|audio_bos|>{}<|audio_eos|>\n{}<|im_end|>\n<|im_start|>assistant\n"
)
ONE = "<|AUDIO|>"


@torch.no_grad()
@pytest.mark.parametrize("seconds", [2.0, 1.37, 0.1])
def test_one_chunk_gives_the_logits_of_the_model_and_its_processor(seconds):
    model, processor = qwen2_audio()
    wave = speech(seconds)[0]
    llm = Qwen2Audio(model, processor)
    inputs = processor(
        text=TEXT.format(ONE, "who wins?"),
        audio=wave.numpy(),
        sampling_rate=RATE,
        return_tensors="pt",
    )
    expected = model(**inputs).logits
    audio = llm.hear(wave, RATE).tokens
    prompts = llm.prompts([audio], ["who wins?"])
    torch.testing.assert_close(model(**prompts.inputs).logits, expected, atol=1e-5, rtol=1e-5)
    assert len(audio) == int((inputs.input_ids == model.config.audio_token_id).sum())


@torch.no_grad()
def test_95_s_go_through_in_four_chunks():
    """The model's own forward pass gets four clips, whose tokens stand one after another."""
    model, processor = qwen2_audio(seconds=30)
    wave = speech(95)[0]
    clips = [wave[i : i + 30 * RATE].numpy() for i in range(0, len(wave), 30 * RATE)]
    llm = Qwen2Audio(model, processor)
    inputs = processor(
        text=TEXT.format(ONE * 4, "who wins?"), audio=clips, sampling_rate=RATE, return_tensors="pt"
    )
    calls = []
    hook = model.model.audio_tower.register_forward_pre_hook(
        lambda module, args: calls.append(len(args[0]))
    )
    audio = llm.hear(wave, RATE).tokens
    hook.remove()
    assert calls == [4] and len(audio) == 3 * 750 + 125
    expected = model(**inputs).logits[:, -1]
    whole = llm.prompts([audio], ["who wins?"])
    torch.testing.assert_close(model(**whole.inputs).logits[:, -1], expected, atol=1e-4, rtol=1e-4)
    pruned = llm.prompts([audio], ["who wins?"], TokenPruner("speechprune", rate=0.2))
    assert len(pruned.kept[0]) == 600 and int(pruned.kept[0].max()) >= 750


def test_the_end_of_a_recording_may_be_too_short_for_a_token():
    llm = Qwen2Audio(*qwen2_audio())
    wave = speech(2, 0.01)
    whole, first = (llm.hear(w, RATE).tokens for w in (torch.cat(wave), wave[0]))
    torch.testing.assert_close(whole, first, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="audio of 160 samples is too short for an audio token"):
        llm.hear(wave[1], RATE)


def test_a_saved_model_loads_under_its_name(tmp_path):
    model, processor = qwen2_audio()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = SPEECH_LLMS["qwen2_audio"].from_pretrained(str(tmp_path), dtype="float32")
    wave = speech(1)[0]
    expected = Qwen2Audio(model, processor).hear(wave, RATE).tokens
    torch.testing.assert_close(loaded.hear(wave, RATE).tokens, expected)
    assert loaded.layout("who wins?") == Qwen2Audio(model, processor).layout("who wins?")
