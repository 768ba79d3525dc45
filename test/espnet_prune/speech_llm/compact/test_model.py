import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from espnet_prune.speech_llm import SPEECH_LLMS
from espnet_prune.speech_llm.compact import model as module
from espnet_prune.speech_llm.compact.adapter import BLANK, REACH, AdapterShape, AudioAdapter, place
from espnet_prune.speech_llm.compact.ear import Ear, Word
from espnet_prune.speech_llm.compact.model import (
    CONFIG,
    WEIGHTS,
    Compact,
    CompactConfig,
    computing_dtype,
    load_language_model,
    lora_parameters,
    read_compact,
    recipe_model,
    save_compact,
    with_lora,
)
from espnet_prune.structured import SpeechEncoder, SpeechEncoderConfig, load_encoder, slim
from espnet_prune.tokens import TokenPruner, query_similarity
from test.espnet_prune.speech_llm.models import (
    RATE,
    WordsByLoudness,
    compact,
    llama,
    randomize,
    speech,
    tokenizer,
)
from test.espnet_prune.tiny import random_masks
from test.espnet_prune.whispers import save_ear

SHAPE = AdapterShape(spread=0.85, contrast=0.5)


def adapter(outputs: int = 24, **options) -> AudioAdapter:
    torch.manual_seed(3)
    return randomize(AudioAdapter(outputs, dataclasses.replace(SHAPE, **options)))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Directories of a tiny Whisper and language model, and of a saved compact model on them."""
    folder = tmp_path_factory.mktemp("compact")
    save_ear(folder / "whisper")
    tokens = tokenizer()
    llama(len(tokens)).save_pretrained(folder / "lm")
    tokens.save_pretrained(folder / "lm")
    config = CompactConfig(str(folder / "whisper"), str(folder / "lm"), SHAPE, 2, 6)
    model = with_lora(AutoModelForCausalLM.from_pretrained(folder / "lm"), rank=2, alpha=6)
    lora = lora_parameters(model)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # LoRA's B is zero at the beginning
        for value in lora.values():
            value.copy_((torch.randn(value.shape, generator=generator) * 0.3).half())
    ears = adapter()
    with torch.no_grad():
        for value in ears.parameters():
            value.copy_(value.half())
    size = save_compact(folder / "compact", config, ears, lora)
    return folder, config, ears, lora, size


words_in_time = st.lists(st.tuples(st.sampled_from(["red", "the team", "one"]), st.integers(0, 40)))


@given(words_in_time, st.integers(1, 24))
@settings(max_examples=100, deadline=None)
def test_tokens_stand_in_order_where_their_words_begin(words, size):
    tokens = tokenizer()
    words = [Word(text, frame) for text, frame in sorted(words, key=lambda word: word[1])]
    ids = place(words, tokens, size)
    said = [tokens(f" {w.text}", add_special_tokens=False).input_ids for w in words]
    every = [i for row in said for i in row]
    assert len(ids) == size and ids[ids != BLANK].tolist() == every[:size]
    if not every or len(every) > size:
        return
    at = (ids != BLANK).nonzero()[:, 0].tolist()
    firsts = [at[sum(map(len, said[:n]))] for n in range(len(words))]
    behind = -1
    for n, (word, first) in enumerate(zip(words, firsts, strict=True)):
        room = size - sum(map(len, said[n:]))
        assert first == min(max(word.frame // 2, behind + 1), room)
        behind = first + len(said[n]) - 1


def test_embeddings_as_by_hand():
    embeddings = torch.arange(12.0).view(6, 2)  # token 1 is (2, 3), token 5 is (10, 11)
    ears = AudioAdapter(2, AdapterShape(spread=0.0, contrast=0.1))
    with torch.no_grad():
        ears.blank.copy_(torch.tensor([-1.0, 0.5]))
    audio = ears.embed(torch.tensor([5, BLANK, 1]), embeddings)
    expected = [[10.0, 11.0], [-1.0 - 0.5, 0.5 - 0.6], [2.0, 3.0]]  # the mean is (5, 6)
    torch.testing.assert_close(audio, torch.tensor(expected))
    assert ears.embed(torch.zeros(0, dtype=torch.long), embeddings).shape == (0, 2)


def test_blanks_are_less_like_a_query_than_words():
    """All embeddings of text have a direction in common."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(40, 16, generator=generator) + 1.0
    ids = torch.full((30,), BLANK)
    ids[::5] = 3
    gaps = []
    for contrast in (0.0, 1.0):
        audio = adapter(contrast=contrast, outputs=16).embed(ids, embeddings)[None]
        like = query_similarity(audio, embeddings[None, 30:], torch.tensor([10]))[0]
        gaps.append(float(like[ids != BLANK].min() - like[ids == BLANK].max()))
    assert abs(gaps[0]) < 0.05 and gaps[1] > 0.3


@given(st.lists(st.sampled_from([BLANK, BLANK, BLANK, 1, 5]), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_tokens_are_spread_over_the_blanks_around(row):
    ears = AudioAdapter(2, AdapterShape(spread=0.85, contrast=0.0))
    embeddings = torch.arange(12.0).view(6, 2)
    audio = ears.embed(torch.tensor(row), embeddings)
    for t, token in enumerate(row):
        near = [s for s, other in enumerate(row) if other != BLANK and abs(s - t) <= REACH]
        weights = [0.85 ** abs(t - s) for s in near]
        expected = embeddings[token] if token != BLANK else ears.blank.detach().clone()
        for s, weight in zip(near if token == BLANK else [], weights, strict=False):
            expected = expected + weight / max(1.0, sum(weights)) * embeddings[row[s]]
        torch.testing.assert_close(audio[t], expected, rtol=1e-4, atol=1e-4)


def test_what_is_saved_is_what_is_loaded(parts):
    folder, config, ears, lora, size = parts
    llm = SPEECH_LLMS["compact"].from_pretrained(folder / "compact")
    assert isinstance(llm, Compact) and llm.answer_lead == " "
    assert size == sum((folder / "compact" / n).stat().st_size for n in (CONFIG, WEIGHTS))
    for name, value in ears.state_dict().items():
        assert torch.equal(llm.adapter.state_dict()[name], value), name
    # LoRA by hand: W + (alpha / r) B A, in every layer's four projections and nowhere else
    plain = dict(AutoModelForCausalLM.from_pretrained(folder / "lm").named_parameters())
    merged = dict(llm.lm.named_parameters())
    assert plain.keys() == merged.keys()
    changed = 0
    for name, before in plain.items():
        base = name.removesuffix(".weight")
        if f"{base}.lora_A.weight" in lora:
            a, b = (lora[f"{base}.lora_{x}.weight"] for x in "AB")
            torch.testing.assert_close(merged[name], before + 6 / 2 * b @ a)
            changed += 1
        else:
            assert torch.equal(merged[name], before), name
    assert changed == 8
    # The pruner sees the merged weights
    assert torch.equal(
        llm.first_layer().query_weight, merged["model.layers.0.self_attn.q_proj.weight"]
    )


def test_a_recording_goes_through_ear_adapter_and_embeddings(parts):
    folder = parts[0]
    llm = Compact.from_pretrained(folder / "compact")
    wave = speech(0.9)[0]
    tokens, words, said = llm.hear(wave, RATE)
    (heard,) = Ear(folder / "whisper").hear([wave.numpy()])
    assert words == " ".join(word.text for word in heard) != ""
    ids = place(heard, llm.tokenizer, 23)  # ceil(14400 / 640)
    assert torch.equal(said, ids != BLANK)
    expected = llm.adapter.embed(ids, llm.lm.get_input_embeddings().weight)
    torch.testing.assert_close(tokens, expected)
    # longer than the window of a second: in parts
    twice = torch.cat([wave, torch.zeros(640), wave])
    parts = llm.chunks(twice.numpy())
    assert len(parts) == 2 and len(llm.hear(twice, RATE).tokens) == -(-len(twice) // 640)


def test_a_pruned_encoder_hears_for_the_compact_model(parts, tmp_path):
    folder = parts[0]
    dense = load_encoder(folder / "whisper")
    slim(dense, random_masks(dense.plan(), torch.Generator().manual_seed(0))).save_pretrained(
        tmp_path / "pruned"
    )
    llm = Compact.from_pretrained(folder / "compact", encoder=tmp_path / "pruned")
    assert sum(p.numel() for p in llm.ear.encoder.parameters()) < sum(
        p.numel() for p in dense.parameters()
    )
    audio = [llm.hear(wave, RATE).tokens for wave in speech(1.0, 0.5)]
    prompts = llm.prompts(audio, ["who wins?", "wait"], TokenPruner("speechprune", keep=8))
    assert [len(kept) for kept in prompts.kept] == [8, 8]
    assert len(llm.score_choices(prompts, [["one", "two"]] * 2)) == 2


def test_the_committed_model_is_small_and_fits_its_parts():
    """SmolLM2-135M's sizes as published; nothing is fetched."""
    config, weights = read_compact(recipe_model())
    assert sum(file.stat().st_size for file in recipe_model().iterdir()) <= 24e6
    assert (config.whisper, config.language_model) == ("whisper_tiny.en", "smollm2_135m")
    wanted = {"adapter.blank": (576,)}
    for layer in range(30):
        for name, (inputs, outputs) in {
            "q_proj": (576, 9 * 64),
            "k_proj": (576, 3 * 64),
            "v_proj": (576, 3 * 64),
            "o_proj": (9 * 64, 576),
        }.items():
            base = f"lora.model.layers.{layer}.self_attn.{name}"
            wanted[f"{base}.lora_A.weight"] = (config.lora_rank, inputs)
            wanted[f"{base}.lora_B.weight"] = (outputs, config.lora_rank)
    assert {k: tuple(v.shape) for k, v in weights.items()} == wanted
    assert all(torch.isfinite(v).all() for v in weights.values())
    assert all(v.any() for k, v in weights.items() if k.endswith("lora_B.weight"))  # was trained


def test_the_model_is_not_in_an_installed_package(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "a" / "b" / "c" / "d" / "model.py"))
    with pytest.raises(FileNotFoundError, match="or make it with egs2/speech_llm/compact1/run.sh"):
        recipe_model()


def test_prompt_is_plain_text():
    llm = compact()
    before, after = llm.layout("who wins?")
    assert llm.tokenizer.decode(before) == "Passage:"
    assert llm.tokenizer.decode(after) == " Question: who wins? Answer:"


def test_an_answer_ends_where_the_tokenizer_s_end_is_said():
    llm = compact()
    assert llm.stops() == {"eos_token_id": llm.tokenizer.convert_tokens_to_ids("<|im_end|>")}


def test_what_does_not_fit_is_refused(parts, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, config, ears, lora, _ = parts
    with pytest.raises(FileNotFoundError, match="compact.safetensors: no such file; take egs2"):
        Compact.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="spread is 1.0"):
        AdapterShape(spread=1.0)
    with pytest.raises(ValueError, match="contrast is -0.5"):
        AdapterShape(contrast=-0.5)
    save_compact(tmp_path / "wide", config, adapter(10), lora)
    with pytest.raises(ValueError, match=r"compact.safetensors: adapter.blank is \(10,\).*ask for"):
        Compact.from_pretrained(tmp_path / "wide")
    save_compact(tmp_path / "less", config, ears, dict(list(lora.items())[1:]))
    with pytest.raises(ValueError, match="is None, but"):
        Compact.from_pretrained(tmp_path / "less")
    weights = tmp_path / "less" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        Compact.from_pretrained(tmp_path / "less")
    path = tmp_path / "less" / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), "color": 1}))
    with pytest.raises(ValueError, match="not a compact speech LLM's"):
        Compact.from_pretrained(tmp_path / "less")
    with pytest.raises(FileNotFoundError, match="/none/such: no such directory"):
        Compact.from_pretrained(folder / "compact", whisper="/none/such")


def test_a_language_model_comes_in_single_precision(parts):
    lm, tokens = load_language_model(parts[0] / "lm")
    assert lm.dtype == torch.float32 and not lm.training and len(tokens) == len(tokenizer())


def test_the_language_model_computes_in_what_is_asked_for(parts, monkeypatch):
    folder = parts[0] / "compact"
    plain = Compact.from_pretrained(folder)
    half = Compact.from_pretrained(folder, dtype="bfloat16")
    assert {p.dtype for p in half.lm.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in half.adapter.parameters()} == {torch.float32}
    wave = speech(0.5)[0]
    tokens = half.hear(wave, RATE).tokens
    assert tokens.dtype == torch.bfloat16
    expected = plain.hear(wave, RATE).tokens
    torch.testing.assert_close(tokens.float(), expected, atol=1e-2, rtol=2e-2)
    intel = {"avx512_bf16": True, "avx512_fp16": True}
    for can, dtype in (
        ({"avx512_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        (intel | {"amx_bf16": False}, torch.float32),
        (intel | {"amx_bf16": True}, torch.bfloat16),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda can=can: can)
        assert Compact.from_pretrained(folder, dtype="auto").lm.dtype == dtype
    # of GPUs, too, only those that do not emulate it
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert computing_dtype("auto", "cuda") == torch.float32
    with pytest.raises(ValueError, match="dtype is 'int8', choose from float32"):
        Compact.from_pretrained(folder, dtype="int8")


def test_an_encoder_with_other_frames_is_refused():
    cnn = {"conv_dim": (8, 8), "conv_kernel": (10, 16), "conv_stride": (10, 16)}
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    small = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
    ear = WordsByLoudness()
    ear.encoder = SpeechEncoder(SpeechEncoderConfig("hubert", {**cnn, **sizes, **small}))
    match = r"a frame every 160 samples, but .* one every 320 \(50 a second\)"
    with pytest.raises(ValueError, match=match):
        Compact(ear, adapter(), llama(len(tokenizer())), tokenizer())
