import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from espnet_prune.speech_llm import SPEECH_LLMS
from espnet_prune.speech_llm.compact import model as module
from espnet_prune.speech_llm.compact.adapter import REACH, AdapterShape, AudioAdapter
from espnet_prune.speech_llm.compact.features import write_features
from espnet_prune.speech_llm.compact.model import (
    CONFIG,
    WEIGHTS,
    Compact,
    CompactConfig,
    computing_dtype,
    encode_pairs,
    load_language_model,
    lora_parameters,
    read_compact,
    recipe_model,
    save_compact,
    with_lora,
)
from espnet_prune.structured import SpeechEncoder, SpeechEncoderConfig, load_encoder, slim
from espnet_prune.tokens import TokenPruner, query_similarity
from test.espnet_prune.speech_llm.models import RATE, compact, llama, randomize, speech, tokenizer
from test.espnet_prune.tiny import random_masks, saved

TOKEN_IDS = (4, 7, 9, 20)
SHAPE = AdapterShape(
    width=8, blocks=2, kernel=3, heads=2, feedforward=12, spread=0.85, contrast=0.5
)


def adapter(outputs: int = 24, **options) -> AudioAdapter:
    torch.manual_seed(3)
    shape = dataclasses.replace(SHAPE, **options)
    return randomize(AudioAdapter(24, outputs, TOKEN_IDS, shape))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Directories of a tiny encoder and language model, and of a saved compact model on them."""
    folder = tmp_path_factory.mktemp("compact")
    saved("whisper", folder / "encoder")
    tokens = tokenizer()
    llama(len(tokens)).save_pretrained(folder / "lm")
    tokens.save_pretrained(folder / "lm")
    config = CompactConfig(str(folder / "encoder"), str(folder / "lm"), TOKEN_IDS, SHAPE, 2, 6)
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


def test_soft_embeddings_as_by_hand():
    ears = AudioAdapter(3, 2, (5, 1), AdapterShape(width=4, blocks=1, kernel=3, spread=0.0))
    embeddings = torch.arange(12.0).view(6, 2)  # token 1 is (2, 3), token 5 is (10, 11)
    with torch.no_grad():
        ears.blank.copy_(torch.tensor([-1.0, 0.5]))
    p = torch.tensor([[[0.5, 0.25, 0.25]]])  # blank, token 5, token 1
    expected = [[[-0.5 + 2.5 + 0.5, 0.25 + 2.75 + 0.75]]]
    audio = ears.embed(p.log(), torch.tensor([1]), embeddings)
    torch.testing.assert_close(audio, torch.tensor(expected))
    ears.shape = dataclasses.replace(
        ears.shape, contrast=0.1
    )  # of the mean, (5, 6), for half a blank
    further = ears.embed(p.log(), torch.tensor([1]), embeddings)
    torch.testing.assert_close(audio - further, torch.tensor([[[0.25, 0.3]]]))


def test_blanks_are_less_like_a_query_than_words():
    """All embeddings of text have a direction in common."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(40, 16, generator=generator) + 1.0
    logits = torch.zeros(1, 30, 5)
    logits[0, :, 0], logits[0, ::5, 0], logits[0, ::5, 1] = 9.0, 0.0, 9.0
    blanks, length = torch.arange(30) % 5 != 0, torch.tensor([30])
    gaps = []
    for contrast in (0.0, 1.0):
        ears = adapter(contrast=contrast, outputs=16)
        audio = ears.embed(logits, length, embeddings)
        like = query_similarity(audio, embeddings[None, 30:], torch.tensor([10]))[0]
        gaps.append(float(like[~blanks].min() - like[blanks].max()))
    assert abs(gaps[0]) < 0.05 and gaps[1] > 0.3


@given(st.integers(1, 12), st.integers(0, 30), st.sampled_from([0.0, 0.5, 0.85]), st.data())
@settings(max_examples=60, deadline=None)
def test_tokens_are_spread_over_the_frames_around(frames, more, spread, data):
    ears = AudioAdapter(3, 2, (5, 1), AdapterShape(width=4, blocks=1, kernel=3, spread=spread))
    embeddings = torch.arange(12.0).view(6, 2)
    logits = torch.randn(
        2, frames + more, 3, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    )
    lengths = torch.tensor([frames, frames + more])
    audio = ears.embed(3 * logits, lengths, embeddings)
    p = (3 * logits).softmax(-1).detach().double()
    for b, size in enumerate(lengths.tolist()):
        for t in range(size):
            near = range(max(0, t - REACH), min(size, t + REACH + 1))
            weight = {s: spread ** abs(t - s) for s in near}
            mass = sum(weight[s] * float(1 - p[b, s, 0]) for s in near)
            q = [sum(weight[s] * float(p[b, s, k]) for s in near) for k in (1, 2)]
            share = float(p[b, t, 0]) / max(1.0, mass) if spread else 0.0
            n = [float(p[b, t, k]) + share * q[k - 1] for k in (1, 2)]
            expected = n[0] * embeddings[5] + n[1] * embeddings[1] + p[b, t, 0] * ears.blank
            torch.testing.assert_close(audio[b, t], expected.float(), rtol=1e-4, atol=1e-4)


def test_greedy_path_merges_then_removes_blanks():
    ears = adapter()
    path = torch.tensor([[0, 1, 1, 0, 1, 3, 3, 2], [4, 0, 0, 0, 1, 1, 1, 1]])
    logits = torch.nn.functional.one_hot(path, 5).float()
    assert ears.greedy(logits, torch.tensor([8, 4])) == [[4, 4, 9, 7], [20]]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.sampled_from([0, 2]),
    st.integers(0, 99),
)
def test_a_padded_batch_gives_what_each_gives_alone(lengths, heads, seed):
    ears = adapter(heads=heads).eval()
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(len(lengths), max(lengths), 24, generator=generator)
    with torch.no_grad():
        batch = ears(frames, torch.tensor(lengths))
        for row, frame, n in zip(batch, frames, lengths, strict=True):
            alone = ears(frame[None, :n], torch.tensor([n]))[0]
            torch.testing.assert_close(row[:n], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("trained", [False, True])
def test_attention_falls_with_distance_as_by_hand(trained):
    ears = adapter(blocks=1).train(trained)
    ears.layers[0].dropout.p = ears.dropout.p = 0.0
    layer, frames = ears.layers[0], torch.randn(1, 5, 24)
    with torch.set_grad_enabled(trained):
        x, y = ears.hidden(frames, torch.tensor([5]))
        same = (ears.norms[0](x) @ ears.convolutions[0].weight[:, :, 1].T)[0]  # before, at, after
        around = torch.nn.functional.pad(ears.norms[0](x)[0], (0, 0, 1, 1))
        for step in (0, 2):
            same = same + around[step : step + 5] @ ears.convolutions[0].weight[:, :, step].T
        x = x[0] + torch.nn.functional.gelu(same + ears.convolutions[0].bias)
        q, k, v = layer.qkv(layer.norms[0](x)).T.view(3, 2, 4, 5)  # heads of four channels
        at, heard = torch.arange(5), []
        for head, slope in enumerate((2.0**-4, 2.0**-8)):
            scores = q[head].T @ k[head] / 2 - slope * (at[:, None] - at).abs()
            heard.append(scores.softmax(-1) @ v[head].T)
        x = x + layer.out(torch.cat(heard, 1))
        x = x + layer.outer(torch.nn.functional.gelu(layer.inner(layer.norms[1](x))))
    torch.testing.assert_close(y[0], x, atol=1e-5, rtol=1e-4)


def test_pairs_are_means_of_the_encoder_s_frames_in_the_full_window(parts):
    encoder = load_encoder(parts[0] / "encoder")
    waves = [wave.numpy() for wave in speech(0.5, 0.33)] + [np.zeros(0, np.float32)]
    found = encode_pairs(encoder, waves)
    assert [len(row) for row in found] == [13, 9, 0]  # tokens of 640 samples, begun ones counted
    for wave, row in zip(waves[:2], found[:2], strict=True):
        with torch.no_grad():
            hidden = encoder(torch.from_numpy(wave)[None]).last_hidden_state[0]
        assert len(hidden) == 60  # the window, not the length of the audio
        for t in range(len(row)):
            torch.testing.assert_close(
                row[t], (hidden[2 * t] + hidden[2 * t + 1]) / 2, atol=1e-5, rtol=1e-4
            )


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


def test_a_recording_goes_through_encoder_adapter_and_embeddings(parts):
    folder = parts[0]
    llm = Compact.from_pretrained(folder / "compact")
    wave = speech(0.9)[0]
    tokens = llm.hear(wave, RATE).tokens
    with torch.no_grad():
        hidden = load_encoder(folder / "encoder")(wave[None]).last_hidden_state
        pairs = hidden.view(1, 30, 2, 24).mean(2)[:, :23]  # ceil(14400 / 640)
        p = llm.adapter(pairs, torch.tensor([23])).softmax(-1)[0]
        table = llm.lm.get_input_embeddings().weight[list(TOKEN_IDS)]
        distance = (torch.arange(23)[:, None] - torch.arange(23)).abs()
        q = (llm.adapter.shape.spread**distance * (distance <= REACH)) @ p[:, 1:]
        q = q / q.sum(1, keepdim=True).clamp_min(1.0)
        mean = llm.lm.get_input_embeddings().weight.mean(0)
        between = q @ table + llm.adapter.blank - 0.5 * mean
        expected = p[:, 1:] @ table + p[:, :1] * between
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-4)
    paths = llm.adapter.greedy(llm.adapter(pairs, torch.tensor([23])), torch.tensor([23]))
    words = llm.tokenizer.decode(paths[0]).strip()
    assert llm.hear(wave, RATE)[1] == words != ""
    llm.chunk_samples = len(wave)
    assert llm.hear(torch.cat([wave, wave]), RATE)[1] == f"{words} {words}"


def on(encoder) -> Compact:
    """A compact model in front of which this encoder stands."""
    ears, tokens = adapter().eval(), tokenizer()
    return Compact(encoder.eval(), ears, llama(len(tokens)), tokens)


@torch.no_grad()
@pytest.mark.parametrize("samples", [1, 40])
def test_audio_shorter_than_the_receptive_field(tmp_path, samples):
    llm = on(load_encoder(saved("hubert-base", tmp_path)))
    llm.chunk_samples = 1600
    short = torch.rand(samples)
    with pytest.raises(ValueError, match=f"audio of {samples} samples is too short"):
        llm.hear(short, RATE)
    # four chunks go together, so that the rest stands alone
    whole = speech(0.4)[0]
    longer = llm.hear(torch.cat([whole, short]), RATE).tokens
    assert torch.equal(longer, llm.hear(whole, RATE).tokens)


@torch.no_grad()
@pytest.mark.parametrize("layout", ["whisper", "hubert-base"])
def test_a_pruned_encoder_hears_for_the_compact_model(tmp_path, layout):
    dense = load_encoder(saved(layout, tmp_path / "dense"))
    masks = random_masks(dense.plan(), torch.Generator().manual_seed(0))
    small = slim(dense, masks)
    small.save_pretrained(tmp_path / "pruned")
    llm = on(load_encoder(tmp_path / "pruned"))
    assert sum(p.numel() for p in llm.encoder.parameters()) < sum(
        p.numel() for p in dense.parameters()
    )
    waves = speech(1.0, 0.5)
    audio = [llm.hear(wave, RATE).tokens for wave in waves]
    (pairs,) = encode_pairs(small, [waves[1].numpy()])
    p = llm.adapter(pairs[None], torch.tensor([len(pairs)]))
    alone = llm.adapter.embed(p, torch.tensor([len(pairs)]), llm.lm.model.embed_tokens.weight)[0]
    torch.testing.assert_close(audio[1], alone)
    prompts = llm.prompts(audio, ["who wins?", "wait"], TokenPruner("speechprune", keep=8))
    assert [len(kept) for kept in prompts.kept] == [8, 8]
    assert len(llm.score_choices(prompts, [["one", "two"]] * 2)) == 2


def test_the_committed_model_is_small_and_fits_its_parts():
    """Whisper tiny.en's frames and SmolLM2-135M's sizes as published; nothing is fetched."""
    config, weights = read_compact(recipe_model())
    assert sum(file.stat().st_size for file in recipe_model().iterdir()) <= 24e6
    assert (config.encoder, config.language_model) == ("whisper_tiny.en", "smollm2_135m")
    ids = config.token_ids
    assert len(set(ids)) == len(ids) and 0 <= min(ids) and max(ids) < 49152
    ears = AudioAdapter(384, 576, ids, config.shape).state_dict()
    wanted = {f"adapter.{name}": value.shape for name, value in ears.items()}
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
    assert {k: tuple(v.shape) for k, v in weights.items()} == {
        k: tuple(s) for k, s in wanted.items()
    }
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
    with pytest.raises(ValueError, match="kernel is 4"):
        AdapterShape(kernel=4)
    with pytest.raises(ValueError, match="spread is 1.0"):
        AdapterShape(spread=1.0)
    with pytest.raises(ValueError, match="contrast is -0.5"):
        AdapterShape(contrast=-0.5)
    with pytest.raises(ValueError, match="multiple of heads, 3"):
        AdapterShape(heads=3)
    wrong = dataclasses.replace(config, shape=dataclasses.replace(SHAPE, width=10))
    save_compact(tmp_path / "wide", wrong, ears, lora)
    with pytest.raises(ValueError, match=r"compact.safetensors: adapter\..* is \(.*ask for"):
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
        Compact.from_pretrained(folder / "compact", encoder="/none/such")


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


def test_an_encoder_with_other_frames_is_refused(tmp_path):
    cnn = {"conv_dim": (8, 8), "conv_kernel": (10, 16), "conv_stride": (10, 16)}
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    small = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
    encoder = SpeechEncoder(SpeechEncoderConfig("hubert", {**cnn, **sizes, **small}))
    encoder.save_pretrained(tmp_path)
    match = r"a frame every 160 samples, but .* one every 320 \(50 a second\)"
    with pytest.raises(ValueError, match=match):
        Compact(encoder, adapter(), llama(len(tokenizer())), tokenizer())
    with pytest.raises(ValueError, match=match):
        write_features(tmp_path, tmp_path, tmp_path, 10.0, 0, "float32", 0)
