"""What Phi-4 multimodal has that no other family has: see `test_families.py` for the rest."""

import pytest
import torch
from transformers import AutoProcessor, DynamicCache

from espnet_prune.speech_llm import POSITIONS, AudioLLM, prune_tokens
from espnet_prune.speech_llm.families import FAMILIES
from espnet_prune.tokens import TokenPruner
from espnet_prune.tokens.scores import attention_received
from test.espnet_prune.speech_llm.models import RATE, phi4, speech

FAMILY = FAMILIES["phi4_multimodal"]
QUESTION = "who wins?"
#: frequencies change beyond 29 tokens
TURN = 29
ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.2],
    "long_factor": [3.0, 7.0, 20.0],
}
LONG = {
    "rope_parameters": ROPE,
    "original_max_position_embeddings": TURN,
    "max_position_embeddings": 100,
}


def inputs_of(llm, *waves):
    """A batch as users make it, a prompt for each recording, given or so many seconds long."""
    content = [{"type": "audio"}, {"type": "text", "text": QUESTION}]
    prompt = llm.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    if isinstance(waves[0], float):
        waves = speech(*waves)
    return llm.processor(
        text=[prompt] * len(waves),
        audio=[wave.numpy() for wave in waves],
        sampling_rate=RATE,
        padding=True,
        return_tensors="pt",
    )


def generate(model, inputs, new=5, **options):
    return model.generate(**inputs, max_new_tokens=new, do_sample=False, **options)


@torch.no_grad()
def test_the_first_layer_is_the_model_s_own_queries_and_keys():
    """As its attention makes them of a fused projection, where rotary positions do nothing."""
    llm = phi4(attn_implementation="eager")
    first, block, tokens = llm.first_layer(), llm.lm.get_decoder().layers[0], torch.randn(7, 24)
    nothing, cache = (torch.ones(1, 7, 6), torch.zeros(1, 7, 6)), DynamicCache()
    hidden = block.input_layernorm(tokens)[None]
    _, weights = block.self_attn(hidden, nothing, None, cache)
    keys = (hidden[0] @ first.key_weight.T).unflatten(-1, (2, 6)).transpose(0, 1)
    torch.testing.assert_close(keys, cache.layers[0].keys[0])
    queries = (hidden[0] @ first.query_weight.T).unflatten(-1, (4, 6)).transpose(0, 1)
    logits = queries @ keys.repeat_interleave(2, 0).mT * first.scale
    torch.testing.assert_close(logits.softmax(-1), weights[0])
    got = attention_received(tokens[None], torch.tensor([7]), first, "true")[0]
    torch.testing.assert_close(got, weights[0].mean((0, 1)).log(), atol=1e-4, rtol=1e-4)


def test_a_lora_that_is_not_merged_is_refused_where_the_first_layer_is_read():
    peft = pytest.importorskip("peft")
    llm = phi4()
    inputs = inputs_of(llm, 1.2)
    peft.get_peft_model(llm.lm, peft.LoraConfig(target_modules=r"model\.layers.*qkv_proj"))
    with prune_tokens(llm.lm, llm.processor, TokenPruner("speechprune", rate=0.5)) as core:
        with pytest.raises(ValueError, match=r"has an adapter \(LoRA\).*qkv_proj is a Linear"):
            generate(core, inputs)
    with prune_tokens(llm.lm, llm.processor, TokenPruner("first_phase", rate=0.5)) as core:
        generate(core, inputs)


def test_loading_merges_the_lora_for_speech(tmp_path, monkeypatch):
    """From where the published model has it; that for images is left alone."""
    peft = pytest.importorskip("peft")
    llm = phi4()
    llm.lm.save_pretrained(tmp_path)
    # the true class for images needs torchvision
    monkeypatch.setattr(AutoProcessor, "from_pretrained", lambda *_, **__: llm.processor)
    wave = speech(1.2)[0]

    def logits(llm):
        return llm.lm(**llm.prompts([llm.hear(wave, RATE).tokens], [QUESTION]).inputs).logits

    with torch.no_grad():
        plain = AudioLLM.from_pretrained(str(tmp_path), dtype="float32")
        torch.testing.assert_close(logits(plain), logits(llm))
        targets = r"model\.layers.*(qkv|o|gate_up|down)_proj"
        adapted = peft.get_peft_model(llm.lm, peft.LoraConfig(target_modules=targets))
        for kind in ("vision", "speech"):
            for name, weight in adapted.named_parameters():
                if "lora_B" in name:
                    weight.normal_(generator=torch.Generator().manual_seed(len(name)))
            adapted.save_pretrained(tmp_path / f"{kind}-lora")
        loaded = AudioLLM.from_pretrained(str(tmp_path), dtype="float32")
        assert not torch.allclose(logits(loaded), logits(plain), atol=0.1)
        torch.testing.assert_close(logits(loaded), logits(llm), atol=1e-4, rtol=1e-4)
    assert type(loaded.lm) is type(plain.lm)
    loaded.first_layer()


def test_audio_that_does_not_fit_the_prompt_is_refused():
    """Even where the model itself says nothing: without placeholders it drops audio, and it puts a
    single token of audio in the place of several."""
    llm = phi4()
    inputs = inputs_of(llm, 1.2)
    text = inputs["input_ids"][:, ~llm.is_audio(inputs["input_ids"])[0]]
    short = llm.processor.audio_processor([speech(0.03)[0].numpy()], RATE, return_tensors="pt")
    assert short["audio_embed_sizes"].tolist() == [1]
    mask = torch.ones_like(text)
    with torch.no_grad():
        llm.lm(input_ids=text, **{n: inputs[n] for n in FAMILY.inputs if n in inputs})
        llm.lm(**{**inputs, **short})
    cases = {
        "0 audio placeholders and 1 clips": {"input_ids": text, "attention_mask": mask},
        "15 audio placeholders and 1 clips": short,
        r"do not fit.*\(audio_embed_sizes are None\)": {"audio_embed_sizes": None},
        "make text and features in one call": {"audio_embed_sizes": torch.tensor([7, 8])},
    }
    with prune_tokens(llm.lm, llm.processor, TokenPruner("none")) as core:
        for message, other in cases.items():
            with pytest.raises(ValueError, match=message):
                generate(core, {**inputs, **other})
        with pytest.raises(ValueError, match="there are no audio_input_features: a pruned prompt"):
            core.generate(input_ids=inputs["input_ids"])
        with pytest.raises(ValueError, match="input_ids of the processor beside its audio_input_f"):
            core.generate(audio_input_features=inputs["audio_input_features"])
        for name in ("image_pixel_values", "image_sizes"):
            with pytest.raises(ValueError, match=f"option '{name}'"):
                generate(core, inputs, **{name: torch.ones(1)})


def test_audio_shorter_than_a_frame_has_no_token():
    llm = phi4()
    with pytest.raises(ValueError, match="audio of 399 samples is too short for an audio token"):
        llm.hear(torch.zeros(399), RATE)
    assert len(llm.hear(torch.zeros(400), RATE).tokens) == 1
    rest = llm.hear(speech(2.01)[0], RATE).tokens  # its last chunk has 160 samples
    assert torch.equal(rest, llm.hear(speech(2.01)[0][: 2 * RATE], RATE).tokens)


def test_random_tokens_belong_to_the_recording_in_batches_of_the_processor_too():
    """A single clip has no mask, and no padding."""
    llm = phi4()
    with prune_tokens(llm.lm, llm.processor, TokenPruner("rap", keep=4)) as core:
        generate(core, inputs_of(llm, 2.0, 0.7))
        together = core.generate.kept
        for b, wave in enumerate(speech(2.0, 0.7)):
            generate(core, inputs_of(llm, wave))
            assert torch.equal(core.generate.kept[0], together[b])
    assert not torch.equal(*together)


@torch.no_grad()
def test_a_shorter_clip_of_a_batch_has_other_tokens_than_alone():
    """Of the unwrapped model: its encoder adds the mask of padding to logits instead of masking
    them. As the page says; if this fails, `transformers` has mended it."""
    llm = phi4()
    waves = speech(2.0, 0.7)
    batches = inputs_of(llm, *waves), inputs_of(llm, waves[1])
    together, alone = (llm.lm(**inputs).logits[-1, -1] for inputs in batches)
    assert not torch.allclose(together, alone, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("positions", POSITIONS)
def test_no_answer_passes_the_length_where_rotation_changes(positions):
    """12 tokens of text and 15 of audio, of which 9 stay."""
    llm = phi4(**LONG)
    inputs = inputs_of(llm, 1.2)
    whole = inputs["input_ids"].shape[1]
    assert whole == 27 and int(llm.is_audio(inputs["input_ids"]).sum()) == 15
    options = {"output_logits": True, "return_dict_in_generate": True}
    # of the whole prompt three can be new: the last one is not read
    expected = generate(llm.lm, inputs, 3, **options)
    with prune_tokens(llm.lm, llm.processor, TokenPruner("none"), positions=positions) as core:
        got = generate(core, inputs, 3, **options)
        assert torch.equal(got.sequences, expected.sequences)
        torch.testing.assert_close(torch.cat(got.logits), torch.cat(expected.logits))
        message = "4 new tokens after a prompt of 27 pass 29, where Phi4M.*: at most 3 can be new"
        with pytest.raises(ValueError, match=message):
            generate(core, inputs, 4)
        with pytest.raises(ValueError, match="20 new tokens after a prompt of 27 pass 29"):
            core.generate(**inputs)
        with pytest.raises(ValueError, match="4 new tokens after a prompt of 27 pass 29"):
            core.generate(**inputs, max_length=31)
        core.generate(**inputs, max_length=30)
    prune = TokenPruner("uniform", keep=9)
    most = 3 if positions == "original" else 9
    with prune_tokens(llm.lm, llm.processor, prune, positions=positions) as core:
        generate(core, inputs, most)
        with pytest.raises(ValueError, match=f"at most {most} can be new"):
            generate(core, inputs, most + 1)
    # what the refusal is about: with a cache, the unwrapped model forgets the prompt
    cached, plain = (
        generate(llm.lm, inputs, 12, use_cache=use, **options) for use in (True, False)
    )
    same = [
        torch.allclose(a, b, atol=1e-3) for a, b in zip(cached.logits, plain.logits, strict=True)
    ]
    assert same[:3] == [True] * 3 and not any(same[3:])


@torch.no_grad()
@pytest.mark.parametrize("positions", POSITIONS)
def test_prompts_beyond_that_length_are_as_the_unwrapped_model_has_them(positions):
    llm = phi4(**LONG)
    inputs = inputs_of(llm, 2.0)  # 25 tokens of audio, 12 of text
    expected = generate(llm.lm, inputs)
    with prune_tokens(llm.lm, llm.processor, TokenPruner("none"), positions=positions) as core:
        assert torch.equal(generate(core, inputs), expected)
    prune = TokenPruner("uniform", keep=10)  # 22 stay
    with prune_tokens(llm.lm, llm.processor, prune, positions=positions) as core:
        generate(core, inputs, 8)
        with pytest.raises(ValueError, match="9 new tokens after a prompt of 22 pass 29"):
            generate(core, inputs, 9)


@torch.no_grad()
def test_choices_do_not_pass_that_length_and_beginnings_are_read_again_beyond_it():
    llm = phi4(**LONG)
    tokens = llm.hear(speech(2.0)[0], RATE).tokens
    short, long = (llm.prompts([tokens[:n]], [QUESTION]) for n in (15, 25))
    choices = [["red", "red team"]]
    begun = llm.read(long)
    for prompts in (short, long):
        fresh, shared = llm.read(prompts), llm.read(prompts, begun)
        torch.testing.assert_close(shared.last, fresh.last, atol=1e-5, rtol=1e-5)
        for ids, score in zip(choices[0], llm.score_choices(shared, choices)[0], strict=True):
            answer = llm.embed_text(ids)
            whole = torch.cat([prompts.inputs_embeds[0], answer[:-1]])[None]
            logits = llm.lm(inputs_embeds=whole, use_cache=False).logits[0, -len(answer) :]
            said = torch.tensor(llm.tokenizer(ids, add_special_tokens=False).input_ids)
            likely = logits.log_softmax(-1)[range(len(said)), said].mean()
            torch.testing.assert_close(score, likely, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="5 new tokens after a prompt of 27 pass 29"):
        llm.score_choices(short, [["red team wins"]])
    with pytest.raises(ValueError, match="64 new tokens after a prompt of 27 pass 29"):
        llm.generate(short)
    assert llm.generate(short, 3) and llm.generate(long)
