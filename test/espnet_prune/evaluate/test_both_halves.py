"""An encoder of tiny sizes in the place of Qwen2-Audio's, before a tiny language model."""

import json

import pytest
import torch

from espnet_prune.cli import main
from espnet_prune.evaluate import both_halves, token_cost
from espnet_prune.evaluate.both_halves import EncoderCost, costs, dense_and_pruned, halves
from espnet_prune.structured import SpeechEncoder
from espnet_prune.structured.cost.measure import counted_macs

BASE = {"d_model": 32, "encoder_layers": 4, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
BASE |= {"num_mel_bins": 16, "max_source_positions": 100}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(both_halves, "CHUNK_SECONDS", 2)
    monkeypatch.setitem(both_halves.SIZES, "qwen2_audio", ("qwen2_audio_encoder", BASE))
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 2, "intermediate_size": 24, "vocab_size": 40}
    monkeypatch.setitem(token_cost.SIZES, "qwen2_audio", ("qwen2", sizes))


def test_costs_are_those_of_a_real_encoder():
    encoder = SpeechEncoder(both_halves.encoder_config("qwen2_audio"))
    parameters, flops = costs(encoder.config)
    assert parameters == encoder.num_parameters()
    mel = 2 * 16 * 201 * 200  # of the features, which are not the encoder's
    assert flops == pytest.approx(2 * counted_macs(encoder, 2)[""] - mel)


def test_some_layers_stand_for_all():
    """A half of the whole encoder is gone, whether one of four layers is built or all."""
    whole = costs(both_halves.encoder_config("qwen2_audio"))
    for layers in (1, 2, None):
        (dense, first), (small, second) = dense_and_pruned("qwen2_audio", layers, 0.5)
        assert len(first.backbone.layers) == len(second.backbone.layers) == (layers or 4)
        assert (dense.pruned, dense.parameters, dense.flops) == (0.0, *whole)
        assert small.pruned == pytest.approx(0.5, abs=0.03)
        assert small.parameters == pytest.approx(0.5 * whole[0], rel=0.06)
        assert second.backbone.conv1.weight.shape == first.backbone.conv1.weight.shape
    assert small.parameters == second.num_parameters()  # of all layers nothing is guessed


@pytest.mark.parametrize(
    ("name", "layers", "target", "message"),
    [
        ("diva", None, 0.5, "the encoder of diva has no sizes here, only qwen2_audio"),
        ("qwen2_audio", 5, 0.5, "--layers is 5, but the audio encoder has 4"),
        ("qwen2_audio", None, 1.0, r"--encoder_target is 1, but has to be in \(0, 1\)"),
    ],
)
def test_wrong_options(name, layers, target, message):
    with pytest.raises(ValueError, match=message):
        dense_and_pruned(name, layers, target)


def test_both_halves_are_the_sum_of_their_parts():
    encoders = [
        EncoderCost(0.0, 100, 8e9, [1.0, 3.0, 2.0], [4.0]),
        EncoderCost(0.5, 50, 4e9, [1.0], [2.0]),
    ]
    common = {"strategy": "none", "rate": 0.0, "audio_tokens": 9}
    variant = {**common, "flops": 1e9, "prune": 0.25, "prefill": 4.0, "processors": 8.5}
    dense, both = halves(encoders, 3, 900, [variant])
    assert (dense["parameters"], both["parameters"]) == (1000, 950)
    assert (dense["flops"], both["flops"]) == (25e9, 13e9)
    assert (dense["first_token_seconds"], both["first_token_seconds"]) == (6.25, 5.25)
    assert (dense["processor_seconds"], both["processor_seconds"]) == (12.5, 10.5)


def test_the_command(tmp_path, capsys):
    args = ["tokens", "profile", "--encoder_target", "0.5", "--layers", "1", "--repeats", "1"]
    args += ["--rates", "0.6", "--audio_tokens", "60", "--text_tokens", "20"]
    main([*args, "--output", str(tmp_path / "halves.json")])
    text = capsys.readouterr().out
    assert "1 chunks of 2 s" in text and "| first token s |" in text
    found = json.loads((tmp_path / "halves.json").read_text())["halves"]
    kept = [(row["encoder_pruned"] > 0, row["strategy"], row["audio_tokens"]) for row in found]
    assert kept == [
        (False, "none", 60),
        (False, "speechprune", 24),
        (True, "none", 60),
        (True, "speechprune", 24),
    ]
    lm = token_cost.language_model_config("qwen2_audio")
    for row in found:
        parts = ("encode_seconds", "prune_seconds", "prefill_seconds")
        assert row["first_token_seconds"] == pytest.approx(sum(row[name] for name in parts))
        prefill = token_cost.prefill_flops(lm, row["audio_tokens"] + 20)
        assert row["flops"] == pytest.approx(row["encoder_flops"] + prefill)
    assert found[0]["parameters"] == costs(both_halves.encoder_config("qwen2_audio"))[0] + (
        token_cost.parameters_of(lm)
    )
    assert torch.is_grad_enabled()
