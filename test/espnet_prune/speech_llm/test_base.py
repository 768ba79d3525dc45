import dataclasses
import itertools

import numpy as np
import pytest
import torch

from espnet_prune.speech_llm import POSITIONS, Compact, Heard, SpeechLLM, audio_chunks
from espnet_prune.tokens import Outcome, TokenPruner
from test.espnet_prune.speech_llm.models import ADAPTERS, RATE, Plain, speech, widths_read

QUESTIONS = ["who wins?", "what is said here: one, two?", "wait until Monday?"]
STEPS = 5


@pytest.fixture(scope="module", params=ADAPTERS)
def llm(request):
    return ADAPTERS[request.param]()


@pytest.fixture(scope="module")
def audio(llm):
    return [llm.hear(wave, RATE).tokens for wave in speech(3.3, 0.7, 5.0)]


def pruner(llm, **options):
    return TokenPruner(**{"rate": 0.4, "window": 40, "frame_tokens": llm.frame_tokens, **options})


def by_hand(llm, prefix, places, ids):
    """Logits for `ids` (L,) after embeddings `prefix` (P, D): one item, no cache, no padding."""
    embeds = torch.cat([prefix, llm.lm.get_input_embeddings()(ids)])
    more = places[-1] + 1 + torch.arange(len(ids))
    logits = llm.lm(
        inputs_embeds=embeds[None],
        attention_mask=torch.ones(1, len(embeds), dtype=torch.long),
        position_ids=torch.cat([places, more])[None],
        use_cache=False,
    ).logits[0]
    return logits[len(prefix) - 1 : -1]


def whole_prompt(llm, tokens, question):
    """Embeddings of a prompt without pruning, and how many tokens stand before the audio."""
    before, after = (torch.tensor(ids) for ids in llm.layout(question))
    embed = llm.lm.get_input_embeddings()
    return torch.cat([embed(before), tokens, embed(after)]), len(before)


@torch.no_grad()
@pytest.mark.parametrize("positions", POSITIONS)
def test_every_decoding_step_of_a_pruned_batch_is_that_of_the_item_by_hand(llm, audio, positions):
    prompts = llm.prompts(audio, QUESTIONS, pruner(llm), positions=positions)
    assert len(set(prompts.attention_mask.sum(1).tolist())) == 3  # there is padding
    out = llm.lm.generate(
        **prompts.inputs,
        max_new_tokens=STEPS,
        min_new_tokens=STEPS,
        do_sample=False,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    for b, (tokens, question) in enumerate(zip(audio, QUESTIONS, strict=True)):
        whole, start = whole_prompt(llm, tokens, question)
        kept = prompts.kept[b]
        assert len(kept) == round(0.6 * min(40, len(tokens)))
        end = start + len(tokens)
        places = torch.cat(
            [torch.arange(start), start + kept, torch.arange(end, len(whole))]
        )  # of what stays
        prefix = whole[places]
        if positions == "contiguous":
            places = torch.arange(len(places))
        expected = by_hand(llm, prefix, places, out.sequences[b])
        got = torch.stack([step[b] for step in out.logits])
        torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)
        single = llm.prompts([tokens], [question], pruner(llm), positions=positions)
        assert torch.equal(single.kept[0], kept)
    # The two policies differ, or this test would say nothing about them.
    other = llm.prompts(
        audio, QUESTIONS, pruner(llm), positions=POSITIONS[positions == "contiguous"]
    )
    assert not torch.equal(other.position_ids, prompts.position_ids)


@torch.no_grad()
def test_keeping_everything_is_no_pruning(llm, audio):
    whole = llm.prompts(audio, QUESTIONS)
    all_kept = TokenPruner("speechprune", rate=0.0, window=10_000)
    for same in (TokenPruner("none", rate=0.9), all_kept):
        for positions in POSITIONS:
            prompts = llm.prompts(audio, QUESTIONS, same, positions=positions)
            for name, value in whole.inputs.items():
                assert torch.equal(prompts.inputs[name], value)
    for b, (tokens, question) in enumerate(zip(audio, QUESTIONS, strict=True)):
        row, _ = whole_prompt(llm, tokens, question)
        assert torch.equal(whole.inputs_embeds[b, -len(row) :], row)
        assert whole.attention_mask[b].sum() == len(row)


@pytest.mark.parametrize("positions", POSITIONS)
def test_what_is_kept_may_be_given(llm, audio, positions):
    found = llm.outcomes(pruner(llm), audio, QUESTIONS)
    given = llm.prompts(audio, QUESTIONS, positions=positions, outcomes=found)
    expected = llm.prompts(audio, QUESTIONS, pruner(llm), positions=positions)
    for name, value in expected.inputs.items():
        assert torch.equal(given.inputs[name], value)
    with pytest.raises(ValueError, match="a pruner or outcomes, not both"):
        llm.prompts(audio, QUESTIONS, pruner(llm), outcomes=found)


def test_what_is_merged_stands_in_the_prompt(llm, audio):
    merge = TokenPruner("merge_neighbours", keep=7)
    prompts = llm.prompts(audio, QUESTIONS, merge)
    for b, (tokens, question) in enumerate(zip(audio, QUESTIONS, strict=True)):
        (outcome,) = merge.outcomes(tokens[None])
        assert torch.equal(prompts.kept[b], outcome.kept)
        before, after = (llm._embed(part) for part in llm.layout(question))
        row = torch.cat([before, outcome.apply(tokens), after])
        assert torch.equal(prompts.inputs_embeds[b, -len(row) :], row)


def test_answers_are_the_text_of_the_new_tokens(llm, audio):
    prompts = llm.prompts(audio, QUESTIONS, pruner(llm))
    answers = llm.generate(prompts, max_new_tokens=STEPS)
    assert answers == llm.generate(prompts, max_new_tokens=STEPS)
    for b, answer in enumerate(answers):
        alone = llm.prompts(audio[b : b + 1], QUESTIONS[b : b + 1], pruner(llm))
        assert llm.generate(alone, max_new_tokens=STEPS) == [answer]
    ids = llm.lm.generate(**prompts.inputs, **llm.stops(), max_new_tokens=STEPS, do_sample=False)
    assert answers == [t.strip() for t in llm.tokenizer.batch_decode(ids, skip_special_tokens=True)]


@torch.no_grad()
@pytest.mark.parametrize("positions", POSITIONS)
def test_choices_score_as_by_hand(llm, audio, positions):
    choices = [["the red team", "red", "green team"], ["one"], ["wait", "we do not know"]]
    prompts = llm.prompts(audio, QUESTIONS, pruner(llm), positions=positions)
    scores = llm.score_choices(prompts, choices)
    for b, row in enumerate(choices):
        real = prompts.attention_mask[b].bool()
        prefix, places = prompts.inputs_embeds[b, real], prompts.position_ids[b, real]
        for c, choice in enumerate(row):
            ids = torch.tensor(llm.tokenizer(llm.answer_lead + choice).input_ids)
            log_p = by_hand(llm, prefix, places, ids).log_softmax(-1)
            expected = log_p.gather(1, ids[:, None]).mean()
            torch.testing.assert_close(scores[b][c], expected, atol=2e-4, rtol=1e-4)
    assert [len(row) for row in scores] == [3, 1, 2]


@torch.no_grad()
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("number", [1, 2])
def test_what_begins_alike_is_read_once(llm, audio, positions, number):
    tokens, asked = audio[::2][:number], QUESTIONS[:number]
    choices = [["the red team", "one"], ["green team", "red"]][:number]
    start = [Outcome(torch.arange(40))] * number
    whole = llm.prompts(tokens, asked, positions=positions)
    begins = llm.prompts(tokens, asked, outcomes=start, positions=positions)
    expected = [llm.score_choices(prompts, choices) for prompts in (begins, whole, whole)]
    with widths_read(llm) as widths:
        read = llm.read(whole)
        reads = [llm.read(begins, read), llm.read(whole, read), read]  # the last is as it was
    if number == 1:
        own = len(begins.kept[0]) + len(llm.layout(asked[0])[0])
        alike = whole.inputs_embeds[0, own:] == begins.inputs_embeds[0, own:][:1]  # a text token
        same = int(alike[0].all() and positions == "contiguous")
        assert widths == [whole.inputs_embeds.shape[1], len(llm.layout(asked[0])[1]) - same, 1]
    for found, scores in zip(reads, expected, strict=True):
        torch.testing.assert_close(llm.score_choices(found, choices), scores, atol=1e-4, rtol=1e-4)
    moved = dataclasses.replace(begins, position_ids=begins.position_ids + 1)
    assert moved.shared(begins) == llm.prompts(audio, QUESTIONS).shared(begins) == 0


def test_choices_make_one_pass_and_prompts_another(llm, audio, monkeypatch):
    prompts = llm.prompts(audio, QUESTIONS)
    choices = [["the red team", "one", "green team"]] * 3
    with widths_read(llm) as widths:
        scores = llm.score_choices(prompts, choices)
    lead = 1 if llm.answer_lead else 0
    # "the red team" has 5 tokens with its spaces; the last one needs no pass, nor does "one" alone
    own = [4 + lead, lead, 2 + lead]
    assert widths == [prompts.inputs_embeds.shape[1], sum(own)]
    # Flash attention takes no mask that keeps choices apart: one after another
    monkeypatch.setattr(SpeechLLM, "_attention", "flash_attention_2")
    with widths_read(llm) as widths:
        for one, all_ in zip(llm.score_choices(prompts, choices), scores, strict=True):
            torch.testing.assert_close(one, all_, atol=1e-5, rtol=1e-5)
    assert widths == [prompts.inputs_embeds.shape[1], *filter(None, own)]


def test_the_order_of_the_words_of_a_question_changes_nothing(llm, audio):
    words = "who wins here two".split()
    pruners = pruner(llm), pruner(llm, strategy="first_phase")
    first = [llm.select(p, audio[:1], [" ".join(words)])[0] for p in pruners]
    for order in itertools.permutations(words):
        for p, kept in zip(pruners, first, strict=True):
            assert torch.equal(llm.select(p, audio[:1], [" ".join(order)])[0], kept)
    other = llm.select(pruners[1], audio[:1], ["Monday"])[0]
    assert not torch.equal(other, first[1])  # the words themselves do


def test_audio_and_text_stand_in_for_each_other(llm, audio):
    passage = llm.embed_text("the red team wins")
    prompts = llm.prompts(
        [llm.empty_audio(), passage, audio[0]], QUESTIONS, TokenPruner("rap", keep=3)
    )
    assert [len(kept) for kept in prompts.kept] == [0, 3, 3]
    assert len(llm.generate(prompts, max_new_tokens=2)) == 3
    none = llm.prompts([llm.empty_audio()], QUESTIONS[:1], pruner(llm))
    assert none.inputs_embeds.shape[1] == sum(map(len, llm.layout(QUESTIONS[0])))


def test_random_tokens_are_drawn_by_name(llm, audio):
    rap = pruner(llm, strategy="rap", rate=0.5)
    both = llm.prompts(audio[:2], QUESTIONS[:2], rap, keys=["a", "b"])
    swapped = llm.prompts(audio[1::-1], QUESTIONS[1::-1], rap, keys=["b", "a"])
    assert torch.equal(both.kept[0], swapped.kept[1])
    assert torch.equal(both.kept[1], swapped.kept[0])


def test_long_audio_is_that_of_its_chunks_in_order(llm):
    wave = speech(2, 2, 2, 2, 0.5)
    whole = llm.hear(torch.cat(wave), RATE).tokens
    if isinstance(llm, Compact):  # cuts at pauses
        wave = map(torch.from_numpy, llm.chunks(torch.cat(wave).numpy()))
    parts = [llm.hear(part, RATE).tokens for part in wave]
    torch.testing.assert_close(whole, torch.cat(parts), atol=1e-5, rtol=1e-5)


def test_first_layer_is_that_of_the_language_model(llm):
    layer = llm.first_layer()
    assert layer.query_weight.shape == (24, 24) and layer.key_weight.shape == (12, 24)
    assert (layer.heads, layer.kv_heads, layer.head_size) == (4, 2, 6)
    attention = llm.lm.get_decoder().layers[0].self_attn
    fused = getattr(attention, "qkv_proj", None)
    weight = attention.k_proj.weight if fused is None else fused.weight[24:36]
    assert torch.equal(layer.key_weight, weight)


def test_a_choice_of_which_the_model_says_nan_is_an_error():
    llm = Plain()
    prompts = llm.prompts([llm.hear(speech(1)[0], RATE).tokens], QUESTIONS[:1])
    with torch.no_grad():
        llm.lm.lm_head.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="the language model gives NaN for a choice"):
        llm.score_choices(prompts, [["one", "two"]])


WAVE = torch.randn(100)


@pytest.mark.parametrize(
    "wave, rate, message",
    [
        (WAVE, 8000, "audio: has 8000 Hz instead of 16000 Hz"),
        (WAVE[:0], RATE, "audio: is empty"),
        (WAVE[None], RATE, r"audio: has shape \(1, 100\) instead of one channel"),
        (torch.ones(100, dtype=torch.int16), RATE, "audio is int16"),
        (np.full(100, np.nan), RATE, "100 of 100 samples are NaN or infinite"),
    ],
)
def test_bad_audio_is_refused(wave, rate, message):
    with pytest.raises(ValueError, match=message):
        audio_chunks(wave, rate)


def test_chunks_are_30_s_and_a_rest():
    wave = np.arange(95 * RATE) / 2e6
    chunks = audio_chunks(wave, RATE)
    assert [len(chunk) for chunk in chunks] == [480000] * 3 + [80000]
    np.testing.assert_array_equal(np.concatenate(chunks), wave.astype(np.float32))


def test_bad_questions_choices_and_options_are_refused(llm, audio):
    for question in ("", " \n"):
        with pytest.raises(ValueError, match="a question or answer has no text"):
            llm.prompts(audio[:1], [question], TokenPruner("rap", rate=0.5))
    with pytest.raises(ValueError, match=r"special token <\|AUDIO\|>"):
        llm.prompts(audio[:1], ["what is <|AUDIO|>"])
    with pytest.raises(ValueError, match="1 recordings, but 2 questions"):
        llm.prompts(audio[:1], QUESTIONS[:2])
    with pytest.raises(ValueError, match="positions is 'new', choose from contiguous, original"):
        llm.prompts(audio[:1], QUESTIONS[:1], positions="new")
    prompts = llm.prompts(audio[:1], QUESTIONS[:1])
    for choices, message in (
        ([[]], "an item has no choices"),
        ([["one", " "]], "has no text"),
        ([["one"]] * 2, "1 prompts, but 2 choices"),
    ):
        with pytest.raises(ValueError, match=message):
            llm.score_choices(prompts, choices)


def test_what_would_be_wrong_silently_is_refused(monkeypatch):
    llm = Plain()
    audio = [llm.hear(speech(1)[0], RATE).tokens]
    config = llm.lm.get_decoder().config
    monkeypatch.setattr(config, "_attn_implementation_internal", "flash_attention_2")
    with pytest.raises(ValueError, match="'original' does not work with flash_attention_2"):
        llm.prompts(audio, QUESTIONS[:1], positions="original")
    attention = llm.lm.get_decoder().layers[0].self_attn
    packed = torch.zeros(288, 1, dtype=torch.uint8)
    attention.q_proj.weight = torch.nn.Parameter(packed, requires_grad=False)
    with pytest.raises(ValueError, match="first layer is quantised"):
        llm.prompts(audio, QUESTIONS[:1], TokenPruner("second_phase", rate=0.5))
    llm.prompts(audio, QUESTIONS[:1], TokenPruner("first_phase", rate=0.5))  # does not read it


@pytest.mark.parametrize("name", ["qwen2_audio", "diva"])
def test_log_mels_do_not_depend_on_autocast_and_tokens_with_nan_are_refused(name, monkeypatch):
    llm, wave = ADAPTERS[name](), speech(1.2)[0]
    seen = []

    def note(module, args, kwargs):
        seen.append([*args, *kwargs.values()][0])

    towers = {"qwen2_audio": "audio_tower", "diva": "whisper_encoder"}
    modules = dict(getattr(llm, "model", llm.lm).named_modules())
    modules |= dict(llm.lm.named_modules())
    (tower,) = (m for n, m in modules.items() if n.endswith(towers[name]))
    hook = tower.register_forward_pre_hook(note, with_kwargs=True)
    for dtype in (torch.float32, torch.float16):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            llm.hear(wave * 0, RATE)
            llm.hear(wave * 1e-3, RATE)
    hook.remove()
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])
    monkeypatch.setattr(
        llm, "encode", lambda chunks: [Heard(torch.tensor([[1.0] * 24, [torch.nan] * 24]))]
    )
    with pytest.raises(ValueError, match="1 of 2 audio tokens have NaN or infinite values"):
        llm.hear(wave, RATE)
