import pytest
import torch

from espnet_prune.speech_llm import POSITIONS, Qwen2Audio, audio_chunks, prune_tokens
from espnet_prune.speech_llm.families import FAMILIES
from espnet_prune.tokens import STRATEGIES, TokenPruner
from test.espnet_prune.speech_llm.models import RATE, DivaModel, qwen2_audio, speech

LOGITS = {
    "max_new_tokens": 5,
    "min_new_tokens": 5,
    "do_sample": False,
    "output_logits": True,
    "return_dict_in_generate": True,
}
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
QUESTIONS = ["who wins?", "what is said here: one, two?"]
PRUNER = {"rate": 0.5, "window": 40}


@pytest.fixture(scope="module")
def loaded():
    return qwen2_audio()


@pytest.fixture(scope="module")
def inputs(loaded):
    """Two prompts as users make them: a recording of two clips, and a short one."""
    return make_inputs(loaded[1], [speech(2, 1.2), speech(0.6)], QUESTIONS)


def make_inputs(processor, recordings, questions):
    texts = []
    for clips, question in zip(recordings, questions, strict=True):
        audio = "".join(
            f"Audio {i}: <|audio_bos|><|AUDIO|><|audio_eos|>\n" for i in range(1, len(clips) + 1)
        )
        texts.append(
            f"{SYSTEM}<|im_start|>user\n{audio}{question}<|im_end|>\n<|im_start|>assistant\n"
        )
    clips = [clip.numpy() for recording in recordings for clip in recording]
    return processor(text=texts, audio=clips, sampling_rate=RATE, padding=True, return_tensors="pt")


def single(inputs, b, chunks):
    """Item b of the batch without its padding."""
    real = inputs.attention_mask[b].bool()
    return {
        "input_ids": inputs.input_ids[b : b + 1, real],
        "attention_mask": inputs.attention_mask[b : b + 1, real],
        "input_features": inputs.input_features[chunks],
        "feature_attention_mask": inputs.feature_attention_mask[chunks],
    }


def same_steps(a, b):
    assert torch.equal(a.sequences, b.sequences)
    torch.testing.assert_close(torch.stack(a.logits), torch.stack(b.logits), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 2}, {"repetition_penalty": 1.5}, {"max_length": 0}], ids=str
)
def test_keeping_everything_is_the_unwrapped_model(loaded, inputs, positions, options):
    model, processor = loaded
    if "num_beams" in options:
        # `transformers` itself repeats clips for beams one by one, so that a prompt of two clips
        # gets the first one twice: compare where it is right.
        inputs = make_inputs(processor, [speech(1.2), speech(0.6)], QUESTIONS)
    options = {**LOGITS, **options}
    if "max_length" in options:
        options["max_length"] = inputs.input_ids.shape[1] + 3
        del options["max_new_tokens"], options["min_new_tokens"]
    expected = model.generate(**inputs, **options)
    for pruner in (TokenPruner("none"), TokenPruner("speechprune", rate=0.0, window=9999)):
        with prune_tokens(model, processor, pruner, positions=positions):
            same_steps(model.generate(**inputs, **options), expected)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_pruned_batch_is_its_pruned_singles_at_every_step(loaded, inputs, positions, strategy):
    model, processor = loaded
    width = inputs.input_ids.shape[1]
    wrapped = prune_tokens(model, processor, TokenPruner(strategy, **PRUNER), positions=positions)
    with wrapped:
        both, kept = model.generate(**inputs, **LOGITS), wrapped.kept
        assert torch.equal(both.sequences[:, :width], inputs.input_ids)
        for b, chunks in enumerate(([0, 1], [2])):
            item = single(inputs, b, chunks)
            alone = model.generate(**item, **LOGITS)
            assert torch.equal(kept[b], wrapped.kept[0])
            assert torch.equal(both.sequences[b, width:], alone.sequences[0, -5:])
            for together, step in zip(both.logits, alone.logits, strict=True):
                torch.testing.assert_close(together[b], step[0], atol=2e-4, rtol=1e-4)
    if strategy != "none":
        # 80 tokens of 3.2 s and 15 of 0.6 s; rates refer to the window
        assert [len(k) for k in kept] == [20, 8]


def test_random_tokens_belong_to_the_recording(loaded, inputs):
    """In any order, among prompts without audio, and not to the place in a batch."""
    model, processor = loaded
    clips, text = [speech(2, 1.2), [], speech(0.6)], [QUESTIONS[0], "wait", QUESTIONS[1]]
    found = []
    for order in ([0, 1, 2], [2, 1, 0]):
        shuffled = make_inputs(processor, [clips[i] for i in order], [text[i] for i in order])
        with prune_tokens(model, processor, TokenPruner("rap", **PRUNER)) as wrapped:
            wrapped.generate(**shuffled, max_new_tokens=1)
            kept = [k.tolist() for k in wrapped.generate.kept]
        found.append([kept[order.index(i)] for i in range(3)])
    assert found[0] == found[1] and [len(k) for k in found[0]] == [20, 0, 8]
    same_length = make_inputs(processor, [speech(1), speech(1, seed=5)], QUESTIONS)
    with prune_tokens(model, processor, TokenPruner("rap", **PRUNER)) as wrapped:
        wrapped.generate(**same_length, max_new_tokens=1)
        first, second = wrapped.generate.kept
    assert not torch.equal(first, second)


@torch.no_grad()
@pytest.mark.parametrize("positions", POSITIONS)
def test_pruned_logits_by_hand(loaded, inputs, positions):
    """The rows of the merged embeddings, as the model makes them, without what was dropped."""
    model, processor = loaded
    item = single(inputs, 0, [0, 1])
    pruner = TokenPruner("speechprune", **PRUNER)
    with prune_tokens(model, processor, pruner, positions=positions) as wrapped:
        out = wrapped.generate(**item, **LOGITS)
        kept = wrapped.generate.kept[0]
    merged = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: merged.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    model(**item)
    hook.remove()
    slots = (item["input_ids"][0] == model.config.audio_token_id).nonzero()[:, 0]
    dropped = set(slots.tolist()) - set(slots[kept].tolist())
    places = [p for p in range(merged[0].shape[1]) if p not in dropped]
    new = out.sequences[0, -5:]
    embeds = torch.cat([merged[0][0, places], model.get_input_embeddings()(new)])
    if positions == "contiguous":
        ids = torch.arange(len(embeds))
    else:
        ids = torch.tensor(places + [merged[0].shape[1] + i for i in range(5)])
    logits = model(
        inputs_embeds=embeds[None],
        attention_mask=torch.ones(1, len(embeds), dtype=torch.long),
        position_ids=ids[None],
    ).logits[0, -6:-1]
    torch.testing.assert_close(torch.cat(list(out.logits)), logits, atol=2e-4, rtol=1e-4)


def test_95_s_go_through_in_four_chunks():
    model, processor = qwen2_audio(seconds=30)
    chunks = [torch.from_numpy(c) for c in audio_chunks(speech(95)[0], RATE)]
    inputs = make_inputs(processor, [chunks], QUESTIONS[:1])
    assert len(inputs.input_features) == 4
    with prune_tokens(model, processor, TokenPruner("speechprune", rate=0.8)) as wrapped:
        ids = wrapped.generate(**inputs, max_new_tokens=2, min_new_tokens=2, do_sample=False)
        kept = wrapped.generate.kept[0]
    assert ids.shape[1] == inputs.input_ids.shape[1] + 2
    assert len(kept) == 150 and int(kept.max()) < 2375
    # one recording for the pruner: the tokens are those that the adapter keeps of all 95 s
    llm = Qwen2Audio(model, processor)
    audio = llm.hear(torch.cat(chunks), RATE).tokens
    expected = llm.select(TokenPruner("speechprune", rate=0.8), [audio], QUESTIONS[:1])[0]
    assert torch.equal(kept, expected)


def test_lengths_count_the_whole_prompt(loaded, inputs):
    model, processor = loaded
    width = inputs.input_ids.shape[1] + 3
    with prune_tokens(model, processor, TokenPruner(**PRUNER)):
        ids = model.generate(**inputs, max_length=width, min_length=width, do_sample=False)
    assert ids.shape == (2, width)


def test_unwrapping_gives_the_model_back(loaded, inputs):
    model, processor = loaded
    before = dict(vars(model))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model.generate(**inputs, **LOGITS)
    wrapped = prune_tokens(model, processor, TokenPruner(**PRUNER))
    assert not torch.equal(model.generate(**inputs, **LOGITS).logits[0], expected.logits[0])
    wrapped.unwrap()
    wrapped.unwrap()
    assert vars(model) == before and "generate" not in vars(model)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    same_steps(model.generate(**inputs, **LOGITS), expected)
    with pytest.raises(KeyError), prune_tokens(model, processor, TokenPruner(**PRUNER)):
        raise KeyError
    assert vars(model) == before


def test_what_someone_else_has_put_there_comes_back(loaded):
    model, processor = loaded
    other = model.generate
    model.generate = other
    try:
        with prune_tokens(model, processor, TokenPruner(**PRUNER)):
            assert model.generate is not other
        assert vars(model)["generate"] is other
    finally:
        del model.generate


def test_the_query_is_the_text_of_the_last_user_turn(loaded, inputs):
    model, processor = loaded
    pruner = TokenPruner("first_phase", **PRUNER)
    kept = {}
    for name, query in {
        "read": None,
        "given": QUESTIONS,
        "permuted": ["wins? who", "two? one,: what here said is"],
        "other": "Monday",
    }.items():
        with prune_tokens(model, processor, pruner, query=query) as wrapped:
            wrapped.generate(**inputs, max_new_tokens=1)
            kept[name] = [k.tolist() for k in wrapped.generate.kept]
    assert kept["read"] == kept["given"] == kept["permuted"] != kept["other"]


@pytest.mark.parametrize(
    "prompt, question",
    [
        (
            f"{SYSTEM}<|im_start|>user\nAudio 1: <|audio_bos|><|audio_eos|>\nWho wins?<|im_end|>\n"
            "<|im_start|>assistant\n",
            "Who wins?",
        ),
        (
            "<|im_start|>user\nIs Audio 1 long? Audio 1: <|audio_bos|><|audio_eos|>\n<|im_end|>\n",
            "Is Audio 1 long?",
        ),
        (
            "<|im_start|>user\n<|audio_bos|><|audio_eos|>Who?<|im_end|>\n<|im_start|>assistant\n"
            "Red.<|im_end|>\n<|im_start|>user\nAnd why?<|im_end|>\n<|im_start|>assistant\n",
            "And why?",
        ),
        ("<|audio_bos|><|audio_eos|>Write it down:", "Write it down:"),
        ("<|im_start|>user\nAudio 1: <|audio_bos|><|audio_eos|>\n<|im_end|>\n", ""),
    ],
)
def test_question_in_prompt(prompt, question):
    assert FAMILIES["qwen2_audio"].question(prompt) == question


def test_prompts_without_audio_go_the_ordinary_way(loaded, inputs):
    model, processor = loaded
    text = processor.tokenizer(QUESTIONS[:1], return_tensors="pt")
    options = {"max_new_tokens": 3, "do_sample": False}
    ids, mask = text.input_ids, text.attention_mask
    expected = model.generate(ids, attention_mask=mask, **options)
    mixed = make_inputs(processor, [speech(0.6), []], QUESTIONS)
    with prune_tokens(model, processor, TokenPruner(**PRUNER)) as wrapped:
        assert torch.equal(wrapped.generate(ids, attention_mask=mask, **options), expected)
        assert len(wrapped.generate(**mixed, **options)) == 2
        assert [len(k) for k in wrapped.generate.kept] == [8, 0]


def test_errors(loaded, inputs):
    model, processor = loaded
    pruner = TokenPruner(**PRUNER)
    with pytest.raises(ValueError, match=r"of DivaModel \(model_type None\) cannot be pruned"):
        prune_tokens(DivaModel(), processor, pruner)
    with pytest.raises(ValueError, match="positions is 'new'"):
        prune_tokens(model, processor, pruner, positions="new")
    assert "generate" not in vars(model)
    silent = make_inputs(processor, [speech(1)], [" "])
    with prune_tokens(model, processor, pruner) as wrapped:
        with pytest.raises(ValueError, match=r"prunes already: call unwrap\(\) first"):
            prune_tokens(model, processor, pruner)
        with pytest.raises(ValueError, match="prompt 1 of 1 has no text"):
            wrapped.generate(**silent)
        with pytest.raises(
            ValueError, match="95 audio placeholders and 2 clips of audio do not fit"
        ):
            wrapped.generate(
                **{
                    **inputs,
                    "input_features": inputs.input_features[:2],
                    "feature_attention_mask": inputs.feature_attention_mask[:2],
                }
            )
        with pytest.raises(ValueError, match="needs input_ids of the processor"):
            wrapped.generate(input_features=inputs.input_features)
    with prune_tokens(model, processor, pruner, query=["one"]) as wrapped:
        with pytest.raises(ValueError, match="2 prompts, but 1 queries"):
            wrapped.generate(**inputs)
