import json
import logging
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BertConfig,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
    Wav2Vec2Processor,
    WhisperFeatureExtractor,
)

from espnet_prune.structured import SpeechEncoder, SpeechEncoderConfig, load_encoder, slim
from espnet_prune.structured.distill.state_cache import bytes_of
from espnet_prune.structured.encoder import format_units, parse_units
from test.espnet_prune.tiny import batch, dense_model, largest_difference, random_masks, saved


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


def test_whole_numbers_are_no_speech(pruned):
    speech, lengths = batch()
    with pytest.raises(ValueError, match="speech has samples of type torch.int16; .* by 32768"):
        load_encoder(pruned)((speech * 32767).to(torch.int16), lengths)


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


@pytest.mark.parametrize("layout", ["base", "large"])
@pytest.mark.parametrize("flag", [True, False])
def test_normalisation_is_that_of_the_processor(tmp_path, layout, flag, caplog):
    """Written into processor_config.json by `transformers` 5."""
    model = Wav2Vec2ForCTC(dense_model(f"wav2vec2-{layout}").config).eval()
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "vocabulary.json").write_text(json.dumps({"<pad>": 0, "<unk>": 1, "|": 2, "a": 3}))
    tokenizer = Wav2Vec2CTCTokenizer(str(tmp_path / "vocabulary.json"))
    processor = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(do_normalize=flag), tokenizer)
    processor.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "preprocessor_config.json").exists()
    with caplog.at_level(logging.INFO):
        encoder = load_encoder(tmp_path / "model")
    assert "its encoder alone is taken, without lm_head" in caplog.text
    assert encoder.config.do_normalize is flag
    wave = 0.01 * torch.randn(8000)
    inputs = processor(wave.numpy(), sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        wanted = model.wav2vec2(inputs).last_hidden_state
        torch.testing.assert_close(
            encoder(wave[None]).last_hidden_state, wanted, atol=1e-4, rtol=1e-4
        )


def test_a_feature_extractor_normalises_unless_it_says_otherwise(tmp_path):
    saved("wav2vec2-base", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert load_encoder(tmp_path).config.do_normalize


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        ("wavlm-base", {"do_normalize": "no"}, "do_normalize is 'no', but has to be true or false"),
        ("wavlm-base", {"sampling_rate": 8000}, "sampling_rate is 8000, but wavlm is supported"),
        ("whisper", {"n_fft": 512}, "n_fft is 512, but whisper is supported with 400 only"),
    ],
)
def test_preparations_that_the_encoder_does_not_have(tmp_path, layout, change, message):
    saved(layout, tmp_path)
    kind = WhisperFeatureExtractor if layout == "whisper" else Wav2Vec2FeatureExtractor
    kind().save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    load_encoder(tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=f"preprocessor_config.json: {message}"):
        load_encoder(tmp_path)


def test_shards(tmp_path):
    model = dense_model("wav2vec2-base")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    load_encoder(tmp_path)
    shard = sorted(tmp_path.glob("model-*"))[1]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=f"{shard.name} is missing, of which model.safe"):
        load_encoder(tmp_path)


def test_sharded_bin(tmp_path):
    """As `transformers` saved large models before there was safetensors."""
    model = dense_model("wav2vec2-base")
    model.config.save_pretrained(tmp_path)
    state = model.state_dict()
    names = {key: f"pytorch_model-0000{1 + number % 2}.bin" for number, key in enumerate(state)}
    for file in set(names.values()):
        part = {key: value for key, value in state.items() if names[key] == file}
        torch.save(part, tmp_path / file)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    speech = torch.randn(1, 8000)
    with torch.no_grad():
        difference = load_encoder(tmp_path)(speech).last_hidden_state - (
            Wav2Vec2Model.from_pretrained(tmp_path).eval()(speech).last_hidden_state
        )
    assert float(difference.abs().max()) < 1e-5
    index.write_text(json.dumps({"weight_map": {"a": "../other.bin"}}))
    with pytest.raises(ValueError, match="index.json: '../other.bin' is no name of a file beside"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("layout", ["whisper", "wavlm-large"])
def test_half_precision(tmp_path, layout):
    """What is stored in it is loaded in float32; a model in it takes float32 waveforms."""
    encoder = load_encoder(saved(layout, tmp_path / "dense"))
    encoder.half().save_pretrained(tmp_path / "half")
    back = load_encoder(tmp_path / "half")
    assert {p.dtype for p in back.parameters()} == {torch.float32}
    for name, value in encoder.state_dict().items():
        assert torch.equal(value.float(), back.state_dict()[name])
    with torch.no_grad():
        out = back(*batch()).last_hidden_state
        half = SpeechEncoder.from_pretrained(tmp_path / "half", dtype=torch.bfloat16).eval()
        low = half(*batch()).last_hidden_state
    assert low.dtype == torch.bfloat16 and float((low.float() - out).norm() / out.norm()) < 0.1


def test_weight_norm_of_half_precision_is_computed_in_float32(tmp_path):
    """The squares of weights of 1e-4 are zero in float16, and the norm of the kernel with them."""
    model = dense_model("hubert-base")
    conv = model.encoder.pos_conv_embed.conv.parametrizations.weight
    with torch.no_grad():
        conv.original1.mul_(1e-4 / conv.original1.abs().max())
    model.half().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    gain, direction = (value.float() for name, value in sorted(state.items()) if "original" in name)
    wanted = direction * (gain / direction.norm(dim=(0, 1), keepdim=True))
    found = load_encoder(tmp_path).backbone.encoder.pos_conv_embed.conv.weight
    torch.testing.assert_close(found.detach(), wanted)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.fill_(torch.nan), "conv1.weight has NaN or infinite values"),
        (lambda value: value.view(-1)[5:6].fill_(torch.inf) and value, "has NaN or infinite"),
        (lambda value: value.to(torch.int8), "conv1.weight is of torch.int8, not of floating"),
    ],
)
def test_weights_that_are_no_numbers(pruned, tmp_path, own, change, message):
    directory = pruned if own else tmp_path / "dense"
    file = directory / "model.safetensors"
    state = load_file(file)
    name = next(name for name in state if name.endswith("conv1.weight") and "decoder" not in name)
    changed = change(state[name])
    state[name] = state[name] if changed is None or changed.dtype == torch.bool else changed
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"{directory}: tensor .*{message}"):
        load_encoder(directory)


@pytest.mark.parametrize(
    ("site", "units", "message"),
    [
        ("layers.0.ffn_dim", "0-20", "there are only the units 0 to 19"),
        ("layers.0.ffn_dim", "0-999999999", "there are only the units 0 to 19"),
        ("layers.0.ffn_dim", "0-3,3-5", "units have to ascend, and to be given once"),
        ("layers.0.ffn_dim", "3-1", "units have to ascend"),
        ("layers.0.ffn_dim", "all", "is no list of units such as '0-2,5'"),
        ("layers.0.ffn_dim", [1, 2], "is no list of units"),
        ("conv1.cnn", "", "at least 1 has to be left"),
        ("layers.0.self_attn.head", "0-2", "has units of unit 3 of layers.0.self_attn.head, which"),
        ("layers.0.self_attn.vo", "0-17", "has no unit of unit 3 of layers.0.self_attn.head"),
    ],
)
def test_what_is_kept_has_to_be_there(tmp_path, site, units, message):
    encoder = load_encoder(saved("whisper", tmp_path / "dense"))
    encoder.save_pretrained(tmp_path / "own")
    file = tmp_path / "own" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "kept": {site: units}}))
    with pytest.raises(ValueError, match=f"own/config.json: 'kept': .*{message}"):
        load_encoder(tmp_path / "own")


@pytest.mark.parametrize("layout", ["whisper", "wav2vec2-base"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 10**9, "encoder_layers": 10**9}, "has to be from 1 to 200"),
        ({"hidden_size": 10**9, "d_model": 10**9}, "has to be from 1 to 200000"),
        ({"hidden_size": 100_000, "d_model": 100_000}, "too large|do not fit"),
        ({"num_attention_heads": 0, "encoder_attention_heads": 0}, "has to be from 1"),
        ({"num_attention_heads": 7, "encoder_attention_heads": 7}, "divided among 7 heads"),
        ({"hidden_size": "768", "d_model": "768"}, "describes no"),
        ({"intermediate_size": None, "encoder_ffn_dim": None}, "describes no"),
        ({"conv_dim": [10**9] * 3, "num_mel_bins": -1}, "has to be from 1"),
    ],
)
def test_configurations_of_no_model(tmp_path, layout, change, message):
    saved(layout, tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=f"^{tmp_path}.*({message})") as error:
        load_encoder(tmp_path)
    assert "\n" not in str(error.value)


def test_what_weights_are_initialised_by_has_to_be_a_number(tmp_path):
    file = saved("wavlm-base", tmp_path) / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "initializer_range": math.nan}))
    with pytest.raises(ValueError, match=f"^{file}: describes no wavlm model"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[]", "{", '{"model_type": []}']
)
def test_a_config_that_is_none(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        load_encoder(tmp_path)


def test_the_reason_of_a_failed_download_is_told(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("We could not connect.\nCheck it.") from ConnectionError(
            "certificate expired"
        )

    monkeypatch.setattr("espnet_prune.structured.encoder.cached_file", refuse)
    with pytest.raises(FileNotFoundError, match="some/name: .*config.json: certificate expired"):
        load_encoder("some/name")


@pytest.mark.parametrize(
    ("prefix", "others", "left_out"),
    [
        ("wavlm.", ["classifier.weight", "projector.bias", "layer_weights"], "classifier, layer_w"),
        ("hubert.", ["lm_head.weight"], "lm_head"),
        ("", [], ""),
        ("model.encoder.", ["model.decoder.x.bias", "proj_out.weight"], "model.decoder, proj_out"),
    ],
)
def test_heads_are_named_when_they_are_left_out(tmp_path, caplog, prefix, others, left_out):
    layout = {"wavlm.": "wavlm-base", "hubert.": "hubert-base"}.get(prefix, "whisper")
    state = dense_model(layout).state_dict()
    if layout == "whisper":
        state = {n.removeprefix("encoder."): v for n, v in state.items() if n.startswith("encoder")}
    state = {prefix + name: value.clone() for name, value in state.items()}
    saved(layout, tmp_path)
    save_file({**state, **{n: torch.ones(1) for n in others}}, tmp_path / "model.safetensors")
    with caplog.at_level(logging.INFO):
        encoder = load_encoder(tmp_path)
    lines = [line for line in caplog.messages if "its encoder alone is taken" in line]
    assert len(lines) == bool(left_out) and left_out in "".join(lines)
    frozen = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    encoder.save_pretrained(tmp_path / "own")
    own = load_encoder(tmp_path / "own")
    assert frozen == {name for name, p in own.named_parameters() if not p.requires_grad}


def test_samples_per_frame_are_those_of_the_model(tmp_path):
    assert load_encoder(saved("whisper", tmp_path / "whisper")).samples_per_frame == 320
    saved("hubert-base", tmp_path / "hubert")
    file = tmp_path / "hubert" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "conv_stride": [5, 2, 16]}))
    encoder = load_encoder(tmp_path / "hubert")
    frames = [encoder(torch.zeros(1, n)).last_hidden_state.shape[1] for n in (16000, 32000)]
    assert encoder.samples_per_frame == 160 and frames[1] - frames[0] == 100
