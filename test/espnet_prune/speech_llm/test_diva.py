import torch

from espnet_prune.speech_llm import Diva
from espnet_prune.tokens import TokenPruner
from test.espnet_prune.speech_llm.models import RATE, DivaModel, speech


@torch.no_grad()
def test_95_s_are_four_clips_of_448_tokens():
    model = DivaModel(seconds=30)
    llm = Diva(model)
    wave = speech(95)[0]
    audio = llm.embed_audio(wave, RATE)
    assert len(audio) == 4 * 448
    # the last clip by itself, with Whisper's features of its 5 s padded to 30
    features = model.processor.feature_extractor(
        wave[90 * RATE :].numpy(), sampling_rate=RATE, return_tensors="pt"
    )
    hidden = model.whisper_encoder(features.input_features).last_hidden_state
    torch.testing.assert_close(audio[3 * 448 :], model.connector(hidden, "cpu")[0])
    prune = TokenPruner("speechprune", 0.15, window=llm.window, frame_tokens=llm.frame_tokens)
    kept = llm.prompts([audio], ["who wins?"], prune).kept[0]
    assert len(kept) == round(0.85 * 448)
    # the model's own figures are taken where a pruner was given none, and others are kept
    plain = TokenPruner("speechprune", 0.15)
    assert torch.equal(llm.prompts([audio], ["who wins?"], plain).kept[0], kept)
    assert torch.equal(llm.select(plain, [audio], ["who wins?"])[0], kept)
    other = TokenPruner("speechprune", 0.15, window=100)
    assert len(llm.select(other, [audio], ["who wins?"])[0]) == 85


def test_the_question_stands_in_the_system_turn_before_the_audio():
    llm = Diva(DivaModel())
    before, after = llm.layout("who wins?")
    assert llm.tokenizer.decode(before) == (
        "<|begin|><|header|>system<|end_header|>\nwho wins?<|eot_id|><|header|>user<|end_header|>\n"
    )
    assert llm.tokenizer.decode(after) == "<|eot_id|><|header|>assistant<|end_header|>\n"


def test_the_end_of_a_turn_ends_an_answer():
    """A model that says <|eot_id|> at once: nothing follows it."""
    llm = Diva(DivaModel())
    end = llm.tokenizer.convert_tokens_to_ids("<|eot_id|>")
    head = llm.lm.get_output_embeddings()
    with torch.no_grad():
        head.weight.zero_()
        llm.lm.model.norm.weight.zero_()
    prompts = llm.prompts([llm.embed_audio(speech(1)[0], RATE)], ["who wins?"])
    hook = head.register_forward_hook(lambda m, a, out: out + torch.eye(out.shape[-1])[end])
    steps = []
    count = llm.lm.register_forward_pre_hook(lambda *args: steps.append(1))
    assert llm.generate(prompts, max_new_tokens=8) == [""]
    hook.remove(), count.remove()
    assert len(steps) == 1
