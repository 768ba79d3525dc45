import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration

from espnet_prune.cli import main
from espnet_prune.structured import load_encoder, slim
from espnet_prune.structured.export import ctranslate2
from espnet_prune.structured.export.ctranslate2 import export_ctranslate2
from test.espnet_prune.tiny import saved
from test.espnet_prune.whispers import END, NO_TIMESTAMPS, START, make_teacher

engine = pytest.importorskip("ctranslate2")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return make_teacher(tmp_path_factory.mktemp("whisper"), d_model=32)


def pruned(whisper, sizes=((11, 3), (5, 16))):
    """Heads of so many dimensions and so many feed-forward dimensions in each layer."""
    encoder, masks = load_encoder(whisper), {}
    for layer, (head, inside) in enumerate(sizes):
        units = torch.zeros(2, 16)
        units[0, 16 - head :], units[1, :head] = 1, 1
        for kind in ("qk", "vo"):
            masks[f"layers.{layer}.self_attn.{kind}"] = units.flatten()
        masks[f"layers.{layer}.ffn_dim"] = (torch.arange(24) < inside).float()
    masks["conv1.cnn"] = (torch.arange(32) % 3 > 0).float()
    return slim(encoder, masks)


@torch.no_grad()
@pytest.mark.parametrize("small", [False, True])
def test_the_engine_predicts_the_same(whisper, tmp_path, small):
    encoder = pruned(whisper) if small else load_encoder(whisper)
    assert export_ctranslate2(encoder, whisper, tmp_path / "engine") < 1e-3
    time = torch.arange(16000) / 16000
    speech = torch.stack([0.3 * torch.sin(2000 * n * time) * time for n in (1, 2, 3)])
    features = engine.StorageView.from_array(encoder.prepare(speech).features.numpy())
    found = engine.models.Whisper(str(tmp_path / "engine")).generate(
        features, [[START, NO_TIMESTAMPS]] * 3, beam_size=1, max_length=20
    )
    model = WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    silent = model.generation_config.suppress_tokens
    scores = []
    for states, result in zip(encoder(speech).last_hidden_state, found, strict=True):
        (tokens,) = result.sequences_ids
        given = torch.tensor([[START, NO_TIMESTAMPS, *tokens]])
        hidden = model.model.decoder(given, encoder_hidden_states=states[None]).last_hidden_state
        logits = model.proj_out(hidden)[0, 1:-1]
        logits[:, silent] = -torch.inf
        logits[0, [1, END]] = -torch.inf
        assert logits.argmax(-1).tolist() == tokens  # greedy
        chosen = logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])
        scores.append(float(chosen.sum()))
    assert len(set(scores)) == 3


def test_int8(whisper, tmp_path, capsys):
    pruned(whisper).save_pretrained(tmp_path / "pruned")
    options = ["--to", "ctranslate2", "--whisper", str(whisper), "--quantization", "int8"]
    output = ["--output", str(tmp_path / "engine")]
    main(["encoder", "export", "--model", str(tmp_path / "pruned"), *options, *output])
    assert "differs from torch by" in capsys.readouterr().out
    model = engine.models.Whisper(str(tmp_path / "engine"))
    features = np.zeros((1, 80, 100), dtype=np.float32)
    assert np.asarray(model.encode(engine.StorageView.from_array(features))).shape == (1, 50, 32)
    assert {file.name for file in tmp_path.iterdir()} == {
        "pruned",
        "engine",
    }  # nothing else is left


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"layers.1.self_attn.qk": torch.arange(32) % 2}, "layer 1 has heads of 8 to 16 dim"),
        ({"layers.0.self_attn.head": torch.tensor([1, 0])}, "layer 0 has lost heads"),
        ({"layers.0.self_attn.mha": torch.tensor([0])}, "layer 0 has lost heads"),
        ({"layers.1.ffn": torch.tensor([0])}, "layer 1 has lost its feed-forward"),
    ],
)
def test_what_the_engine_does_not_run(whisper, tmp_path, masks, message):
    small = slim(load_encoder(whisper), {name: mask.float() for name, mask in masks.items()})
    with pytest.raises(ValueError, match=f"{message}.*--layout stock"):
        export_ctranslate2(small, whisper, tmp_path / "engine")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(whisper, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="exists already: give a directory that does not"):
        export_ctranslate2(pruned(whisper), whisper, tmp_path)
    with pytest.raises(ValueError, match="hubert: CTranslate2 is written for Whisper"):
        export_ctranslate2(
            load_encoder(saved("hubert-base", tmp_path / "h")), whisper, tmp_path / "x"
        )
    with pytest.raises(ValueError, match="quantization is 'int4', choose from float32"):
        export_ctranslate2(pruned(whisper), whisper, tmp_path / "x", "int4")
    other = make_teacher(tmp_path / "other", d_model=16)
    with pytest.raises(ValueError, match="other: its encoder has 16 dimensions, .* 32"):
        export_ctranslate2(pruned(whisper), other, tmp_path / "x")
    monkeypatch.setattr(ctranslate2, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="x: CTranslate2's output differs from torch's by"):
        export_ctranslate2(pruned(whisper), whisper, tmp_path / "x")
    assert not (tmp_path / "x").exists() and not list(tmp_path.glob(".*"))
