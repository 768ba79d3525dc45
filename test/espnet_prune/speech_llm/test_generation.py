"""`generate` with everything kept is that of the unwrapped model, or refuses the option by name."""

import copy
import functools

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    DynamicCache,
    GenerationConfig,
    MaxLengthCriteria,
    Qwen2Config,
    Qwen2ForCausalLM,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from espnet_prune.speech_llm import generation, prune_tokens
from espnet_prune.tokens import TokenPruner
from test.espnet_prune.speech_llm.models import ADAPTERS, RATE, qwen2_audio, speech, tokenizer
from test.espnet_prune.speech_llm.test_wrap import QUESTIONS, make_inputs, single

TOKENIZER = tokenizer()
TOKENIZER.add_tokens(["abcdef"])  # `transformers` spells this word to learn how pieces are joined
WORD, OTHER = TOKENIZER.convert_tokens_to_ids(["red", "team"])


def draft(vocabulary):
    """A small model that proposes tokens."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=vocabulary, **sizes, **heads)).eval()


class Nowhere(BaseStreamer):
    """Any of `transformers`' own takes one prompt only."""

    def put(self, value):
        pass

    def end(self):
        pass


#: A wrapped Qwen2-Audio gives back ids; the adapters (of DiVA, the compact model, and any other)
#: give back texts, and know no length of a whole prompt.
BOTH, WRAPPED, NONE = "all", "the wrapped model only", "none"
SAMPLED = {"do_sample": True}
BEAMS = {"num_beams": 3}
#: options, and who takes them; the others refuse the first of them by name
COMBINATIONS = [
    ({}, BOTH),
    ({"max_new_tokens": 3}, BOTH),
    ({"min_new_tokens": 3, "eos_token_id": [WORD, OTHER]}, BOTH),
    ({"exponential_decay_length_penalty": (2, 1.5), "eos_token_id": WORD}, BOTH),
    ({"forced_eos_token_id": WORD}, BOTH),
    ({"stop_strings": ["red", "wait"], "tokenizer": TOKENIZER}, BOTH),
    ({"max_time": 100.0}, BOTH),
    ({"temperature": 0.7, "top_k": 20, "top_p": 0.9, **SAMPLED}, BOTH),
    ({"min_p": 0.01, "typical_p": 0.9, **SAMPLED}, BOTH),
    ({"epsilon_cutoff": 0.001, "eta_cutoff": 0.001, **SAMPLED}, BOTH),
    ({"num_return_sequences": 2, **SAMPLED}, BOTH),
    ({"num_beams": 3, "length_penalty": 2.0, "early_stopping": True}, BOTH),
    ({"num_return_sequences": 2, **BEAMS}, BOTH),
    ({"num_beams": 2, **SAMPLED}, BOTH),
    ({"repetition_penalty": 1.7}, BOTH),
    ({"no_repeat_ngram_size": 2, "renormalize_logits": True}, BOTH),
    ({"suppress_tokens": [WORD], "begin_suppress_tokens": [OTHER]}, BOTH),
    ({"bad_words_ids": [[WORD], [OTHER, WORD]], "remove_invalid_values": True}, BOTH),
    ({"sequence_bias": [[[WORD], 5.0]]}, BOTH),
    ({"use_cache": False}, BOTH),
    ({"cache_implementation": "dynamic", "guidance_scale": 1.0}, BOTH),
    ({"streamer": Nowhere(), "synced_gpus": False}, BOTH),
    ({"max_length": 200}, WRAPPED),
    ({"min_length": 68, "eos_token_id": [WORD, OTHER]}, WRAPPED),
    ({"return_dict_in_generate": True, "output_scores": True, "output_logits": True}, WRAPPED),
    ({"prompt_lookup_num_tokens": 3}, NONE),
    ({"assistant_model": draft(len(tokenizer()))}, NONE),
    ({"assistant_early_exit": 1}, NONE),
    ({"past_key_values": DynamicCache()}, NONE),
    ({"prefill_chunk_size": 4}, NONE),
    ({"stopping_criteria": StoppingCriteriaList([MaxLengthCriteria(9)])}, NONE),
    ({"logits_processor": [lambda ids, scores: scores * ids.shape[1]]}, NONE),
    ({"prefix_allowed_tokens_fn": lambda batch, ids: [int(ids[-1])]}, NONE),
    ({"encoder_repetition_penalty": 1.5}, NONE),
    ({"encoder_no_repeat_ngram_size": 2}, NONE),
    ({"guidance_scale": 1.5}, NONE),
    ({"watermarking_config": {"bias": 2.0}}, NONE),
    ({"cache_implementation": "quantized"}, NONE),
    ({"custom_generate": "someone/else"}, NONE),
    ({"token_healing": True}, NONE),
    ({"position_ids": torch.zeros(2, 9)}, NONE),
    ({"inputs_embeds": torch.zeros(2, 9, 24)}, NONE),
    ({"an_option_of_tomorrow": 1}, NONE),
]
NAMES = ["+".join(options) or "greedy" for options, _ in COMBINATIONS]
EVERYTHING = [TokenPruner("none"), TokenPruner("speechprune", rate=0.0, window=9999)]


@pytest.fixture(scope="module")
def wrapped():
    """Qwen2-Audio, its processor, and a padded batch of prompts."""
    model, processor = qwen2_audio()
    return model, processor, make_inputs(processor, [speech(1.2), speech(0.6)], QUESTIONS)


@pytest.fixture(scope="module", params=["compact", "diva", "qwen2_audio"])
def adapter(request):
    """A speech LLM, and the audio tokens of two recordings."""
    llm = ADAPTERS[request.param]()
    return llm, [llm.hear(wave, RATE).tokens for wave in (*speech(1.2), *speech(0.6))]


def found_by(generate, **options):
    torch.manual_seed(0)  # of what is sampled
    out = generate(**{"do_sample": False, "max_new_tokens": 6, **options})
    return out


def without_new(options):
    """Lengths of the whole prompt are not read beside those of what is new."""
    return {"max_new_tokens": None} if "max_length" in options else {}


@pytest.mark.parametrize(("options", "takes"), COMBINATIONS, ids=NAMES)
def test_a_wrapped_model_that_keeps_everything(wrapped, options, takes):
    model, processor, inputs = wrapped
    options = {**without_new(options), **options}
    if takes != NONE:
        expected = found_by(model.generate, **inputs, **options)
    for pruner in EVERYTHING:
        with prune_tokens(model, processor, pruner):
            if takes == NONE:
                with pytest.raises(ValueError, match=f"generate: option '{next(iter(options))}'"):
                    model.generate(**inputs, **options)
                continue
            got = found_by(model.generate, **inputs, **options)
        if isinstance(expected, torch.Tensor):
            assert torch.equal(got, expected)
            continue
        assert torch.equal(got.sequences, expected.sequences)
        for name in ("scores", "logits"):
            a, b = (torch.stack(out[name]) for out in (got, expected))
            torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-4)
        assert got.past_key_values is None  # it is not the ids' where tokens were dropped


@torch.no_grad()
@pytest.mark.parametrize(("options", "takes"), COMBINATIONS, ids=NAMES)
def test_an_adapter_that_keeps_everything(adapter, options, takes):
    """The language model's own `generate`, given the embeddings of the whole prompt by hand."""
    llm, audio = adapter
    for pruner in EVERYTHING:
        prompts = llm.prompts(audio, QUESTIONS, pruner)
        if takes != BOTH:
            with pytest.raises(ValueError, match=f"generate: option '{next(iter(options))}'"):
                llm.generate(prompts, **options)
            continue
        got = found_by(functools.partial(llm.generate, prompts), **options)
        embed, rows = llm.lm.get_input_embeddings(), []
        for tokens, question in zip(audio, QUESTIONS, strict=True):
            before, after = (embed(torch.tensor(part)) for part in llm.layout(question))
            rows.append(torch.cat([before, tokens, after]))
        side = {"batch_first": True, "padding_side": "left"}
        mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], **side)
        inputs = {"inputs_embeds": pad_sequence(rows, **side), "attention_mask": mask}
        filler = llm.tokenizer.pad_token_id
        ids = found_by(
            llm.lm.generate, **{"pad_token_id": filler, **llm.stops(), **inputs, **options}
        )
        texts = llm.tokenizer.batch_decode(ids, skip_special_tokens=True)
        assert got == [text.strip() for text in texts]


GREEDY = [o for o, takes in COMBINATIONS if takes == BOTH and "do_sample" not in o]


@pytest.mark.parametrize("options", GREEDY, ids=["+".join(o) or "greedy" for o in GREEDY])
def test_a_pruned_batch_is_its_pruned_singles(wrapped, options):
    """What reads ids does not take padding, of which another batch has more, for a prompt's."""
    model, processor, inputs = wrapped
    pad = model.generation_config.pad_token_id
    number = options.get("num_return_sequences", 1)
    with prune_tokens(model, processor, TokenPruner("speechprune", rate=0.5, window=40)) as core:
        both = found_by(model.generate, **inputs, **options)[:, inputs.input_ids.shape[1] :]
        assert [len(kept) for kept in core.generate.kept] == [15, 8]
        for b in range(2):
            item = single(inputs, b, [b])
            alone = found_by(model.generate, **item, **options)[:, item["input_ids"].shape[1] :]
            for row, other in zip(both[b * number : (b + 1) * number], alone, strict=True):
                assert torch.equal(row[: len(other)], other) and (row[len(other) :] == pad).all()


def test_options_of_generation_configs_count_too(wrapped):
    """In the model's own and in one that is given; what does nothing there is let through."""
    model, processor, inputs = wrapped
    own = model.generation_config
    idle = {"num_assistant_tokens": 20, "encoder_repetition_penalty": 1.0, "num_beam_groups": 1}
    with prune_tokens(model, processor, TokenPruner("none")):
        found_by(model.generate, **inputs, generation_config=GenerationConfig(**idle, chat="ml"))
        for config in ({"generation_config": GenerationConfig(prompt_lookup_num_tokens=2)}, {}):
            try:
                if not config:
                    model.generation_config = GenerationConfig(prompt_lookup_num_tokens=2)
                with pytest.raises(ValueError, match="option 'prompt_lookup_num_tokens'"):
                    model.generate(**inputs, **config)
            finally:
                model.generation_config = own
    llm = ADAPTERS["compact"]()
    prompts = llm.prompts([llm.hear(speech(1)[0], RATE).tokens], QUESTIONS[:1])
    with pytest.raises(ValueError, match="option 'generation_config'"):
        llm.generate(prompts, generation_config=GenerationConfig())
    llm.lm.generation_config.assistant_early_exit = 1
    with pytest.raises(ValueError, match="option 'assistant_early_exit'"):
        llm.generate(prompts)


@pytest.mark.parametrize("pruner", [TokenPruner("none"), TokenPruner(rate=0.5, window=40)])
@pytest.mark.parametrize("where", ["keyword", "given config", "own config"])
def test_lengths_count_the_whole_prompt_wherever_they_are_set(wrapped, pruner, where):
    model, processor, inputs = wrapped
    own, width = model.generation_config, inputs.input_ids.shape[1]
    lengths = {"max_length": width + 5, "min_length": width + 5, "do_sample": False}
    config = copy.deepcopy(own)
    for name, value in lengths.items():
        setattr(config, name, value)
    options = {"keyword": lengths, "given config": {"generation_config": config}}.get(where, {})
    try:
        if where == "own config":
            model.generation_config = config
        expected = model.generate(**inputs, **options)
        with prune_tokens(model, processor, pruner):
            got = model.generate(**inputs, **options)
    finally:
        model.generation_config = own
    assert got.shape == expected.shape == (2, width + 5)
    assert pruner.strategy != "none" or torch.equal(got, expected)


def test_a_batch_without_a_mask_is_masked_as_transformers_does_or_refused(wrapped):
    model, processor, inputs = wrapped
    bare = {name: value for name, value in inputs.items() if name != "attention_mask"}
    expected = found_by(model.generate, **inputs)
    assert torch.equal(found_by(model.generate, **bare), expected)
    one = {name: value[:1] for name, value in bare.items()}
    pad = model.generation_config.pad_token_id
    with prune_tokens(model, processor, TokenPruner("none")):
        assert torch.equal(found_by(model.generate, **bare), expected)
        model.generate(**one, eos_token_id=pad, max_new_tokens=1)  # nothing can be padding
        for ends in (pad, [WORD, pad]):
            with pytest.raises(ValueError, match="needs the attention_mask of the processor"):
                model.generate(**bare, eos_token_id=ends)
        with pytest.raises(ValueError, match="needs the attention_mask of the processor"):
            model.generate(**bare, pad_token_id=None)


def test_padding_on_the_right_and_masks_of_another_shape_are_refused(wrapped):
    model, processor, inputs = wrapped
    right = dict(inputs)
    for name in ("input_ids", "attention_mask"):
        right[name] = inputs[name].clone()
        shift = int((inputs.attention_mask[1] == 0).sum())
        right[name][1] = right[name][1].roll(-shift)
    hole = inputs.attention_mask.clone()
    hole[0, 5] = 0
    with prune_tokens(model, processor, TokenPruner("none")):
        for wrong in (right, {**inputs, "attention_mask": hole}):
            with pytest.raises(ValueError, match="attention_mask hides tokens behind the first"):
                model.generate(**wrong)
        with pytest.raises(ValueError, match=r"attention_mask is \(2, 3\), input_ids \(2, "):
            model.generate(**{**inputs, "attention_mask": hole[:, :3]})
        with pytest.raises(ValueError, match="as inputs or as input_ids, not as both"):
            model.generate(inputs.input_ids, **inputs)


def test_no_second_turn_goes_on_from_the_cache_of_a_pruned_prompt(wrapped):
    model, processor, inputs = wrapped
    with prune_tokens(model, processor, TokenPruner(rate=0.5, window=40)):
        out = found_by(model.generate, **inputs, return_dict_in_generate=True)
        assert out.past_key_values is None and "past_key_values" not in out
        with pytest.raises(ValueError, match="audio placeholders, but there are no input_features"):
            model.generate(input_ids=out.sequences, past_key_values=out.past_key_values)
        # two turns of text go on as they do without pruning
        text = processor.tokenizer(QUESTIONS[:1], return_tensors="pt")
        first = found_by(model.generate, **text, return_dict_in_generate=True)
        cache = first.past_key_values
        assert cache.get_seq_length()
        found_by(model.generate, input_ids=first.sequences, past_key_values=cache)


def test_the_row_without_text_is_named(wrapped):
    """As of a voice chat, whose question is spoken."""
    model, processor, _ = wrapped
    inputs = make_inputs(processor, [speech(1.2), speech(0.9)], [QUESTIONS[0], ""])
    for strategy in ("speechprune", "first_phase"):
        with prune_tokens(model, processor, TokenPruner(strategy, rate=0.5)):
            with pytest.raises(ValueError, match="prompt 2 of 2 has no text .* give a query"):
                model.generate(**inputs, max_new_tokens=1)
        with prune_tokens(model, processor, TokenPruner(strategy, rate=0.5), query="who?") as core:
            core.generate(**inputs, max_new_tokens=1)
    with prune_tokens(model, processor, TokenPruner("second_phase", rate=0.5)) as core:
        core.generate(**inputs, max_new_tokens=1)


class Packed(torch.nn.Module):
    """As the linear layers of GPTQ, AWQ and HQQ: without an attribute `weight`."""

    def __init__(self, linear):
        super().__init__()
        self.qweight, self.bias = linear.weight.detach(), linear.bias

    def forward(self, x):
        return torch.nn.functional.linear(x, self.qweight, self.bias)


class Int8(torch.nn.Linear):
    """As those of bitsandbytes."""


class Scaled(torch.Tensor):
    """As the weights of torchao."""


def test_first_layers_that_cannot_be_read_are_refused_and_merged_adapters_read():
    peft = pytest.importorskip("peft")
    prune = TokenPruner("speechprune", rate=0.5, window=40)
    model, processor = qwen2_audio()
    inputs = make_inputs(processor, [speech(1.2)], QUESTIONS[:1])

    def kept():
        with prune_tokens(model, processor, prune) as core:
            core.generate(**inputs, max_new_tokens=1)
            return core.generate.kept[0].tolist()

    attention = model.model.language_model.layers[0].self_attn
    plain, before = attention.q_proj, kept()
    changed = Int8(*plain.weight.shape[::-1])
    subclass = copy.deepcopy(plain)
    subclass.weight = torch.nn.Parameter(subclass.weight.detach().as_subclass(Scaled))
    for layer in (Packed(plain), changed, subclass):
        attention.q_proj = layer
        with pytest.raises(ValueError, match="first layer is quantised.*q_proj is a"):
            kept()
    attention.q_proj = torch.nn.Linear(24, 24, device="meta")
    with pytest.raises(ValueError, match="q_proj of the language model's first layer is offloaded"):
        prune_tokens(model, processor, prune).llm.first_layer()
    model.generate.unwrap()
    attention.q_proj = plain
    config = peft.LoraConfig(target_modules=r".*language_model.*(q_proj|k_proj)")
    adapted = peft.get_peft_model(model, config).eval()
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=3.0)
    with pytest.raises(ValueError, match=r"has an adapter \(LoRA\).*merge_and_unload"):
        kept()
    adapted.merge_and_unload()
    assert kept() != before


def test_names_of_options_exist():
    known = set(vars(GenerationConfig())) | {"tokenizer", "streamer", "synced_gpus"}
    assert known >= generation.ALLOWED | generation.LENGTHS | generation.OUTPUTS
    assert not generation.ALLOWED & (generation.LENGTHS | generation.OUTPUTS)
