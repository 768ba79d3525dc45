import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from espnet_prune.cli import main
from espnet_prune.evaluate import token_cost
from espnet_prune.evaluate.token_cost import cache_bytes, language_model_config, prefill_flops
from test.espnet_prune.evaluate.sir.stand_in import save_speech_llm


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("tokens", [15, 93])
def test_flops_are_those_that_torch_counts(kv_heads, tokens, kind):
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": kv_heads, "intermediate_size": 96, "vocab_size": 50}
    config = AutoConfig.for_model(kind, **sizes, attn_implementation="eager")
    model = AutoModelForCausalLM.from_config(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(inputs_embeds=torch.zeros(1, tokens, 64), use_cache=False, logits_to_keep=1)
    assert prefill_flops(config, tokens) == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_flops_of_the_paper():
    """Table of arXiv 2412.12009, Qwen2-Audio: 12.20 TFLOPs at 750 audio tokens, 3.66 at 150."""
    config = language_model_config("qwen2_audio")
    ours = [prefill_flops(config, tokens + 110) / 1e12 for tokens in (750, 150)]
    assert ours == pytest.approx([12.20, 3.66], rel=0.1)


def test_table_and_json(tmp_path, capsys):
    output = tmp_path / "bench.json"
    args = ["--speech_llm", "compact", "--layers", "1", "--repeats", "1", "--audio_tokens", "900"]
    args += ["--strategies", "speechprune", "rap", "--rates", "0.2", "0.8"]
    main(["tokens", "profile", *args, "--output", str(output)])
    printed = capsys.readouterr().out
    assert "1 of 30 layers" in printed and "900 audio and 110 text tokens" in printed
    variants = json.loads(output.read_text())["variants"]
    kept = [(v["strategy"], v["audio_tokens"]) for v in variants]
    assert kept == [
        ("crop", 750),
        ("speechprune", 600),
        ("speechprune", 150),
        ("rap", 600),
        ("rap", 150),
    ]
    times = ("prune_seconds", "prefill_seconds", "decode_seconds")
    assert all(len(v[name]) == 1 and v[name][0] > 0 for v in variants for name in times)
    for v in variants:  # speed is that of 30 layers and one output layer, of which one was timed
        whole, original = (
            30 * (x["prefill_seconds"][0] - x["output_seconds"][0]) + x["output_seconds"][0]
            for x in (v, variants[0])
        )
        assert v["speed"] == pytest.approx(original / whole)
    # weights by the sizes: one layer with its two norms, the last norm, embeddings, output layer
    sizes = 576 * 576 * 2 + 576 * 192 * 2 + 3 * 576 * 1536 + 3 * 576 + 2 * 49152 * 576
    for v in variants:
        prompt = (v["audio_tokens"] + 110) * 576
        assert v["total_bytes"] == v["prefill_bytes"] + 4 * (sizes + prompt)
    # 30 layers, 3 heads of 64 for keys and as many for values, in 4 bytes
    assert [v["cache_bytes"] for v in variants] == [
        30 * 2 * 3 * 64 * 4 * (v["audio_tokens"] + 110) for v in variants
    ]


def test_every_new_token_asks_the_output_layer(monkeypatch, tmp_path):
    """And the prefill asks it for one position."""
    asked, load = [], token_cost.load_model

    def watched(*args):
        lm = load(*args)
        head = lm.get_output_embeddings()
        head.register_forward_hook(lambda m, given, out: asked.append(tuple(given[0].shape[:2])))
        return lm

    monkeypatch.setattr(token_cost, "load_model", watched)
    options = ["--speech_llm", "compact", "--layers", "1", "--repeats", "1", "--rates", "0.8"]
    main(["tokens", "profile", *options, "--decode_tokens", "3", "--audio_tokens", "60"])
    # two turns of two variants of a prefill and three tokens, and two prefills for the memory
    assert asked == [(1, 1)] * (2 * 2 * (1 + 3) + 2)


def test_diva_has_its_own_window(tmp_path, monkeypatch, capsys):
    llama, sizes = token_cost.SIZES["diva"]
    small = {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    small |= {"intermediate_size": 16, "vocab_size": 50}
    monkeypatch.setitem(token_cost.SIZES, "diva", (llama, {**sizes, **small}))
    output = tmp_path / "bench.json"
    options = ["--speech_llm", "diva", "--layers", "1", "--repeats", "1", "--rates", "0.5"]
    main(["tokens", "profile", *options, "--output", str(output)])
    assert "1344 audio and 110 text tokens" in capsys.readouterr().out  # three windows of 30 s
    variants = json.loads(output.read_text())["variants"]
    assert [v["audio_tokens"] for v in variants] == [448, 224]


def test_real_weights(tmp_path, capsys):
    output = tmp_path / "bench.json"
    model = save_speech_llm(tmp_path / "model")
    options = ["--model", str(model), "--repeats", "1", "--rates", "0.8", "--output", str(output)]
    main(["tokens", "profile", *options])
    assert f"weights of {model}, 2 of 2 layers" in capsys.readouterr().out
    original, pruned = json.loads(output.read_text())["variants"]
    # 2 layers, 2 heads of 6 for keys and as many for values, in 4 bytes
    assert original["cache_bytes"] == 2 * 2 * 2 * 6 * 4 * (750 + 110)
    assert pruned["audio_tokens"] == 150 and pruned["decode_seconds"][0] > 0
    with pytest.raises(SystemExit):
        main(["tokens", "profile", *options, "--layers", "1"])
    assert "--layers is for random weights" in capsys.readouterr().err


def test_the_cache_is_as_large_as_the_formula_says():
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 50}
    config = AutoConfig.for_model("llama", **sizes)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        cache = model.model(inputs_embeds=torch.zeros(1, 11, 64), use_cache=True).past_key_values
    numbers = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert cache_bytes(config, 11, torch.float32) == numbers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "99"], "--layers is 99, but the model has 32"),
        (["--layers", "0"], "--layers is 0, but the model has 32"),
        (["--rates", "1.0"], "rate is 1.0, but has to be in [0, 1)"),
        (["--query_tokens", "500"], "the query is a part of the text"),
        (["--repeats", "0"], "--repeats is 0"),
        (["--speech_llm", "gpt"], "speech_llm is 'gpt', choose from qwen2_audio, diva, compact"),
        (["--strategies", "magic"], "unknown strategy 'magic', choose from none"),
    ],
)
def test_errors(options, message, capsys):
    with pytest.raises(SystemExit):
        main(["tokens", "profile", *options])
    assert message in capsys.readouterr().err
