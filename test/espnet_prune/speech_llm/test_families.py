"""Every family of the table: keep-all is the unwrapped model, pruned is what a hand computes."""

import pytest
import torch

from espnet_prune.speech_llm import POSITIONS, prune_tokens
from espnet_prune.speech_llm.families import FAMILIES
from espnet_prune.tokens import TokenPruner
from test.espnet_prune.speech_llm.scattered import AUDIO, BY_NAME, PROCESSOR, TINY

QUESTIONS = ["who wins?", "what is said here: one, two?"]
PRUNER = {"rate": 0.5, "window": 20}
OPTIONS = {
    "greedy": {},
    "sampling": {"do_sample": True, "temperature": 0.8, "top_k": 20},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "penalties": {"repetition_penalty": 1.5, "no_repeat_ngram_size": 3},
    "no cache": {"use_cache": False},
}
EVERYTHING = [TokenPruner("none"), TokenPruner("speechprune", rate=0.0, window=9999)]


@pytest.fixture(scope="module", params=TINY, ids=[tiny.name for tiny in TINY])
def loaded(request):
    return request.param, request.param.model()


def generate(model, inputs, **options):
    torch.manual_seed(0)  # of what is sampled
    # a placeholder in an answer is one that no audio is there for
    usual = {"do_sample": False, "max_new_tokens": 5, "suppress_tokens": [AUDIO]}
    return model.generate(**inputs, **{**usual, **options})


def batch(tiny, text_only=False):
    rows = [([tiny.frames[0]], QUESTIONS[0]), ([tiny.frames[1]], QUESTIONS[1])]
    return tiny.inputs([*rows, ([], "wait until Monday")] if text_only else rows)


def single(inputs, row):
    """A row of `batch` without the prompt's padding; features are padded to a window as processors
    do, for encoders whose convolutions see the padding."""
    real = inputs["attention_mask"][row].bool()
    found = {n: inputs[n][row : row + 1, real] for n in ("input_ids", "attention_mask")}
    return found | {n: v[row : row + 1] for n, v in inputs.items() if n not in found}


def test_every_family_is_tried():
    assert {tiny.name for tiny in TINY} == {family.model for family in FAMILIES.values()}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("positions", POSITIONS)
def test_keeping_everything_is_the_unwrapped_model(loaded, options, positions):
    tiny, model = loaded
    inputs = batch(tiny, text_only=True)
    expected = generate(model, inputs, **options)
    for pruner in EVERYTHING:
        with prune_tokens(model, PROCESSOR, pruner, positions=positions):
            assert torch.equal(generate(model, inputs, **options), expected)


@torch.no_grad()
@pytest.mark.parametrize("positions", POSITIONS)
def test_keeping_everything_has_the_logits_of_the_unwrapped_model(loaded, positions):
    tiny, model = loaded
    inputs = batch(tiny, text_only=True)
    options = {"output_logits": True, "return_dict_in_generate": True, "max_new_tokens": 2}
    expected = model(**inputs).logits[:, -1]
    unwrapped = generate(model, inputs, **options).logits
    torch.testing.assert_close(unwrapped[0], expected, atol=1e-5, rtol=1e-5)
    with prune_tokens(model, PROCESSOR, TokenPruner("none"), positions=positions):
        wrapped = generate(model, inputs, **options).logits
    torch.testing.assert_close(wrapped, unwrapped, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("positions", POSITIONS)
def test_pruned_is_a_hand_computation_and_a_batch_its_singles(loaded, positions):
    """Logits of a pass without cache over the rows that stay, at the positions that they have."""
    tiny, model = loaded
    inputs = batch(tiny)
    options = {"output_logits": True, "return_dict_in_generate": True}
    prune = TokenPruner("speechprune", **PRUNER)
    with prune_tokens(model, PROCESSOR, prune, positions=positions) as core:
        both, kept = generate(core, inputs, **options), core.generate.kept
        singles = [generate(core, single(inputs, b), **options) for b in range(2)]
    width = inputs["input_ids"].shape[1]
    assert torch.equal(both.sequences[:, :width], inputs["input_ids"])
    for b, alone in enumerate(singles):
        n = tiny.tokens(tiny.frames[b])
        assert len(kept[b]) == prune.kept_tokens(n) < n
        if tiny.sees_batch:
            continue
        assert torch.equal(both.sequences[b, width:], alone.sequences[0, -5:])
        for together, step in zip(both.logits, alone.logits, strict=True):
            torch.testing.assert_close(together[b], step[0], atol=5e-4, rtol=1e-3)
    logits = by_hand(tiny, model, single(inputs, 0), kept[0], singles[0].sequences, positions)
    torch.testing.assert_close(torch.cat(list(singles[0].logits)), logits, atol=5e-4, rtol=1e-3)


def by_hand(tiny, model, item, kept, sequences, positions):
    """Logits of the new tokens when the decoder gets only the rows of the merged prompt that stay.

    The prompt and the answer go through the whole model once, with the decoder's input cut."""
    family = FAMILIES[model.config.model_type]
    width = item["input_ids"].shape[1]
    slots = (item["input_ids"][0] == AUDIO).nonzero()[:, 0]
    dropped = set(slots.tolist()) - set(slots[kept].tolist())
    places = [p for p in range(sequences.shape[1]) if p not in dropped]
    numbers = torch.tensor(places if positions == "original" else range(len(places)))

    def cut(module, args, kwargs):
        kwargs = dict(kwargs)
        for name in ("inputs_embeds", "per_layer_inputs"):
            if kwargs.get(name) is not None:
                kwargs[name] = kwargs[name][:, places]
        return args, {
            **kwargs,
            "attention_mask": torch.ones(1, len(places)),
            "position_ids": numbers[None],
        }

    decoder = model.get_decoder()
    hooks = [decoder.register_forward_pre_hook(cut, with_kwargs=True)]
    if family.merger is not None:  # the decoder of this one gets ids
        merger = getattr(decoder, family.merger)
        hooks.append(merger.register_forward_hook(lambda module, args, out: out[:, places]))
    mask = torch.ones_like(sequences)
    try:
        out = model(**{**item, "input_ids": sequences, "attention_mask": mask}, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    new = sequences.shape[1] - width
    return out.logits[0, -new - 1 : -1]


def test_several_clips_of_a_prompt_are_one_recording(loaded):
    tiny, model = loaded
    inputs = tiny.inputs([(tiny.frames, QUESTIONS[0]), ([tiny.frames[0]], QUESTIONS[1])])
    numbers = [sum(map(tiny.tokens, tiny.frames)), tiny.tokens(tiny.frames[0])]
    expected = generate(model, inputs)
    with prune_tokens(model, PROCESSOR, TokenPruner("none")) as core:
        assert torch.equal(generate(model, inputs), expected)
        assert [len(k) for k in core.generate.kept] == numbers
    with prune_tokens(model, PROCESSOR, TokenPruner("uniform", keep=3)) as core:
        generate(model, inputs)
        assert [k.tolist()[-1] for k in core.generate.kept] == [n - 1 for n in numbers]


def test_beams_of_several_clips(loaded):
    """`transformers` repeats features clip by clip for the beams, and so mixes the clips of a
    prompt up. Here each beam hears its own prompt: what the merged prompt gives by itself."""
    tiny, model = loaded
    if FAMILIES[model.config.model_type].prompt != "embeddings":
        pytest.skip("its prompts are no embeddings")
    inputs, merged = tiny.inputs([(tiny.frames, QUESTIONS[0])]), []

    def take(module, args, kwargs):
        merged.append(kwargs["inputs_embeds"])

    family = FAMILIES[model.config.model_type]
    with torch.no_grad():
        if family.merger is not None:  # inside the decoder of this one
            merger = getattr(model.get_decoder(), family.merger)
            hook = merger.register_forward_hook(lambda module, args, out: merged.append(out))
        else:
            hook = model.get_decoder().register_forward_pre_hook(take, with_kwargs=True)
        model(**inputs)
        hook.remove()
    options = {"num_beams": 3, "do_sample": False, "max_new_tokens": 5, "suppress_tokens": [AUDIO]}
    mask = torch.ones(merged[0].shape[:2]).long()
    wanted = model.generate(inputs_embeds=merged[0], attention_mask=mask, **options)
    with prune_tokens(model, PROCESSOR, TokenPruner("none")):
        found = generate(model, inputs, num_beams=3)
    assert torch.equal(found[:, inputs["input_ids"].shape[1] :], wanted)


def test_random_tokens_belong_to_the_recording(loaded):
    tiny, model = loaded
    inputs = batch(tiny)
    with prune_tokens(model, PROCESSOR, TokenPruner("rap", **PRUNER)) as core:
        generate(model, inputs)
        together = core.generate.kept
        for b in range(2):
            generate(model, single(inputs, b))
            assert torch.equal(core.generate.kept[0], together[b])


REFUSED = {
    "prompt_lookup_num_tokens": 3,
    "prefill_chunk_size": 4,
    "pixel_values": torch.zeros(1, 3, 8, 8),
    "guidance_scale": 1.5,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_to_be_right_is_refused_by_name(loaded, name):
    tiny, model = loaded
    with prune_tokens(model, PROCESSOR, TokenPruner("none")):
        with pytest.raises(ValueError, match=f"generate: option '{name}'"):
            generate(model, batch(tiny), **{name: REFUSED[name]})


@pytest.mark.parametrize(
    ("kind", "prompt", "question"),
    [
        ("voxtral", "<s>[INST][BEGIN_AUDIO][AUDIO]Who wins?[/INST]", "Who wins?"),
        (
            "glmasr",
            "<|user|>\n<|begin_of_audio|><|end_of_audio|><|user|>\nWho wins?<|assistant|>\n",
            "Who wins?",
        ),
        (
            "granite_speech",
            "<|start_of_role|>user<|end_of_role|>Who wins?<|end_of_text|>\n"
            "<|start_of_role|>assistant<|end_of_role|>",
            "Who wins?",
        ),
        ("granite_speech", "USER: Who wins?\n ASSISTANT:", "Who wins?"),
        (
            "gemma4",
            "<bos><|turn>user\n<|audio><audio|>Who wins?<turn|>\n<|turn>model\n",
            "Who wins?",
        ),
        (
            "phi4_multimodal",
            "<|system|>Be brief.<|end|><|user|>Who wins?<|end|><|assistant|>",
            "Who wins?",
        ),
    ],
)
def test_where_the_question_stands(kind, prompt, question):
    assert FAMILIES[kind].question(prompt) == question


def test_only_models_of_the_table_are_taken():
    model = BY_NAME["VoxtralForConditionalGeneration"].model()
    with pytest.raises(ValueError, match=r"\(model_type voxtral_encoder\) cannot be pruned"):
        prune_tokens(model.model.audio_tower, PROCESSOR, TokenPruner())


@pytest.mark.parametrize("positions", POSITIONS)
def test_without_a_cache_the_answer_is_the_same(loaded, positions):
    tiny, model = loaded
    inputs = single(batch(tiny), 0)
    with prune_tokens(model, PROCESSOR, TokenPruner("uniform", **PRUNER), positions=positions):
        cached, plain = (generate(model, inputs, use_cache=use) for use in (True, False))
    assert torch.equal(cached, plain)


@torch.no_grad()
def test_whose_audio_tokens_depend_on_the_batch(loaded):
    """Of the unwrapped model, as `sees_batch` says, so that pruning is not to blame."""
    tiny, model = loaded
    inputs = batch(tiny)
    together = model(**inputs).logits[:, -1]
    alone = torch.cat([model(**single(inputs, b)).logits[:, -1] for b in range(2)])
    assert torch.allclose(together, alone, atol=1e-4) != tiny.sees_batch
