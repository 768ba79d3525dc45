import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig

from espnet_prune.structured import SpeechEncoder, SpeechEncoderConfig, load_encoder, slim
from espnet_prune.structured.distill.state_cache import bytes_of
from espnet_prune.structured.encoder import format_units, parse_units
from test.espnet_prune.tiny import batch, largest_difference, random_masks, saved


@given(st.sets(st.integers(0, 300)))
def test_runs_of_units(units):
    units = tuple(sorted(units))
    assert parse_units(format_units(units)) == units


@pytest.fixture
def pruned(tmp_path):
    encoder = load_encoder(saved("whisper", tmp_path / "dense"))
    small = slim(encoder, random_masks(encoder.plan(), torch.Generator().manual_seed(3)))
    small.save_pretrained(tmp_path / "pruned")
    return tmp_path / "pruned"


def test_loads_as_transformers_users_expect(pruned):
    wanted, speech = load_encoder(pruned), batch()
    for other in (AutoModel.from_pretrained(pruned), SpeechEncoder.from_pretrained(pruned)):
        with torch.no_grad():
            assert largest_difference(wanted.eval()(*speech), other.eval()(*speech)) < 1e-5
    assert {p.name for p in pruned.iterdir()} >= {"model.safetensors", "config.json"}
    config = json.loads((pruned / "config.json").read_text())
    assert config["family"] == "whisper" and config["kept"] and "d_model" in config["base"]


def test_directory_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such directory"):
        load_encoder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="config.json: missing"):
        load_encoder(tmp_path)


def test_missing_tensor(pruned):
    file = pruned / "model.safetensors"
    state = load_file(file)
    gone = sorted(state)[0]
    del state[gone]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"lacks tensors {gone}"):
        load_encoder(pruned)


def test_misshapen_tensor(pruned):
    file = pruned / "model.safetensors"
    state = load_file(file)
    weight = state["backbone.conv1.weight"]
    state["backbone.conv1.weight"] = torch.cat([weight, weight])
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="do not fit the shapes of config.json"):
        load_encoder(pruned)


def test_truncated_file(pruned):
    file = pruned / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        load_encoder(pruned)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "hubert"}, "hubert|does not have|lacks"),
        ({"family": "conformer"}, "model type 'conformer' is not supported"),
        ({"kept": {"layers.9.ffn_dim": "0-3"}}, "'kept': whisper has no site layers.9.ffn_dim"),
    ],
)
def test_config_of_another_model(pruned, change, message):
    file = pruned / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        load_encoder(pruned)


def test_model_of_an_unknown_family(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'bert' is not supported, choose from wav2vec2"):
        load_encoder(tmp_path)


def test_lengths_are_checked(tmp_path):
    whisper = load_encoder(saved("whisper", tmp_path / "whisper"))
    with pytest.raises(ValueError, match="takes at most 19200"):
        whisper(torch.zeros(1, 20000))
    hubert = load_encoder(saved("hubert-base", tmp_path / "hubert"))
    with pytest.raises(ValueError, match="has 100 samples, but hubert needs at least"):
        hubert(torch.zeros(1, 100))
    least = hubert.family_of.minimum_samples(hubert.config.base)
    assert hubert(torch.randn(1, least)).lengths.tolist() == [1]


@pytest.mark.parametrize(
    ("family", "strides", "samples"),
    [("wavlm", (5, 4, 16), 320), ("hubert", (5, 4, 8), 160), ("whisper", None, 320)],
)
def test_frames_are_as_long_as_the_strides_say(family, strides, samples):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    cnn = {"conv_dim": (8, 8, 8), "conv_kernel": (10, 8, 16), "conv_stride": strides}
    small = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
    whisper = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2}
    base = {**sizes, **cnn, **small, "intermediate_size": 16} if strides else whisper
    encoder = SpeechEncoder(SpeechEncoderConfig(family, base)).eval()
    assert encoder.samples_per_frame == samples
    short, long = (torch.zeros(1, 16000 + n * samples) for n in (0, 10))
    with torch.no_grad():
        frames = [int(encoder(x, torch.tensor([x.shape[1]])).lengths) for x in (short, long)]
    assert frames[1] - frames[0] == 10
    assert bytes_of(encoder, 100 * samples) == 4 * 2 * 100 * 16
