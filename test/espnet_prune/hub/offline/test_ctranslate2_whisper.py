import json
import struct

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

from espnet_prune.hub.offline import ctranslate2_whisper
from espnet_prune.hub.offline.ctranslate2_whisper import (
    convert_whisper,
    read_ctranslate2,
    whisper_state_dict,
)


def test_round_trip_gives_equal_logits(tiny_whisper, ctranslate2_dir, tmp_path):
    convert_whisper(ctranslate2_dir, tmp_path / "model")
    model, info = WhisperForConditionalGeneration.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not any(info.values())
    assert model.dtype == torch.float32
    features = torch.randn(2, 80, 100)
    tokens = torch.tensor([[257, 259, 5, 8], [257, 259, 70, 9]])
    with torch.no_grad():
        expected = tiny_whisper(input_features=features, decoder_input_ids=tokens).logits
        logits = model.eval()(input_features=features, decoder_input_ids=tokens).logits
    assert torch.equal(logits, expected)
    for name, parameter in tiny_whisper.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name


def test_directory_is_an_ordinary_one(ctranslate2_dir, tmp_path):
    convert_whisper(ctranslate2_dir, tmp_path / "model")
    model = WhisperForConditionalGeneration.from_pretrained(tmp_path / "model")
    generation = model.generation_config
    assert generation.decoder_start_token_id == 257
    assert generation.no_timestamps_token_id == 259
    assert (generation.suppress_tokens, generation.begin_suppress_tokens) == ([1, 2, 7], [220, 256])
    assert generation.eos_token_id == 256 and not generation.is_multilingual
    assert (model.config.encoder_ffn_dim, model.config.decoder_ffn_dim) == (24, 20)
    assert (model.config.encoder_attention_heads, model.config.decoder_attention_heads) == (2, 4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = tokenizer("it's on", add_special_tokens=False).input_ids
    assert tokenizer.decode([257, 259, *ids, 256], skip_special_tokens=True) == "it's on"
    extractor = WhisperFeatureExtractor.from_pretrained(tmp_path / "model")
    assert extractor.feature_size == 80
    assert json.loads((tmp_path / "model/config.json").read_text())["model_type"] == "whisper"


def test_every_type_is_read(tmp_path, write_model_bin):
    values = {
        f"extra/{name}": np.array([[1, -2], [3, 4]], name)
        for name in ("float32", "float16", "int8", "int16", "int32")
    }
    content = read_ctranslate2(write_model_bin(values))
    assert (content.specification, content.revision) == ("WhisperSpec", 3)
    for name, value in values.items():
        assert content.variables[name].dtype == value.dtype
        assert np.array_equal(content.variables[name], value)


def test_truncated_anywhere(ctranslate2_dir):
    file = ctranslate2_dir / "model.bin"
    whole = file.read_bytes()
    generator = np.random.default_rng(0)
    cuts = {0, 3, 5, 20, len(whole) - 1, *generator.integers(len(whole), size=60).tolist()}
    for cut in sorted(cuts):
        file.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="model.bin: not a whole CTranslate2 model"):
            read_ctranslate2(file)


def test_bytes_after_the_end(ctranslate2_dir):
    file = ctranslate2_dir / "model.bin"
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(ValueError, match="4 bytes after the last entry"):
        read_ctranslate2(file)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04 a zip file", "not a CTranslate2 model of binary version 6"),
        (struct.pack("<IH", 6, 4) + b"abcd", "no NUL-terminated ASCII string"),
        (struct.pack("<IH", 6, 3) + b"\xff\xfe\0", "no NUL-terminated ASCII string"),
    ],
)
def test_foreign_files(tmp_path, data, message):
    (tmp_path / "model.bin").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_ctranslate2(tmp_path / "model.bin")


def test_size_that_does_not_fit_the_shape(write_model_bin):
    file = write_model_bin({"a_first": np.zeros(3, np.float32)})
    data = file.read_bytes()
    at = data.index(b"a_first\0") + len(b"a_first\0") + 1 + 4 + 1
    file.write_bytes(data[:at] + struct.pack("<I", 8) + data[at + 4 :])
    with pytest.raises(ValueError, match=r"a_first of shape \(3,\).* has 8 bytes instead of 12"):
        read_ctranslate2(file)


@pytest.mark.parametrize(
    ("changes", "header", "message"),
    [
        ({}, {"specification": "TransformerSpec"}, "holds a TransformerSpec"),
        ({"encoder/conv1/weight": None}, {}, "no variable encoder/conv1/weight"),
        ({"decoder/extra": np.zeros(2, np.float32)}, {}, "does not have: .*decoder/extra"),
        ({"encoder/conv1/bias": np.zeros(16, np.int8)}, {}, "conv1/bias is int8.*quantised"),
        ({"encoder/conv2/bias": np.zeros(9, np.float32)}, {}, "not a Whisper model"),
        (
            {"encoder/layer_1/self_attention/linear_0/bias": np.ones(48, np.float32)},
            {},
            "encoder/layer_1/self_attention has a key bias",
        ),
        (
            {"encoder/layer_1/self_attention/linear_0/bias": np.zeros(47, np.float32)},
            {},
            "does not hold 3 stacked projections",
        ),
    ],
)
def test_another_model(write_model_bin, tmp_path, changes, header, message):
    file = write_model_bin(changes, **header)
    with pytest.raises(ValueError, match=message):
        convert_whisper(file.parent, tmp_path / "model")


def test_multilingual(ctranslate2_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(ctranslate2_whisper, "MULTILINGUAL_VOCABULARY", 300)
    file = ctranslate2_dir / "tokenizer.json"
    content = json.loads(file.read_text())
    names = ["<|en|>", "<|yue|>", "<|translate|>", "<|transcribe|>"]
    like = content["added_tokens"][0]
    content["added_tokens"] += [{**like, "content": n, "id": 290 + i} for i, n in enumerate(names)]
    file.write_text(json.dumps(content))
    file = ctranslate2_dir / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "alignment_heads": [[1, 0]]}))
    convert_whisper(ctranslate2_dir, tmp_path / "model")
    config = WhisperForConditionalGeneration.from_pretrained(tmp_path / "model").generation_config
    assert config.is_multilingual and config.lang_to_id == {"<|en|>": 290, "<|yue|>": 291}
    assert config.task_to_id == {"translate": 292, "transcribe": 293}
    assert config.alignment_heads == [[1, 0]]


@pytest.mark.parametrize("name", ["model.bin", "config.json", "tokenizer.json"])
def test_missing_file(ctranslate2_dir, tmp_path, name):
    (ctranslate2_dir / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        convert_whisper(ctranslate2_dir, tmp_path / "model")


def test_foreign_tokenizer(ctranslate2_dir, tmp_path):
    (ctranslate2_dir / "tokenizer.json").write_text('{"added_tokens": []}')
    with pytest.raises(ValueError, match="tokenizer.json: not a CTranslate2 Whisper's"):
        convert_whisper(ctranslate2_dir, tmp_path / "model")


@pytest.mark.parametrize("text", ["{", "[]", '{"suppress_ids": [1]}'])
def test_foreign_config(ctranslate2_dir, tmp_path, text):
    (ctranslate2_dir / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json: not a CTranslate2 Whisper's"):
        convert_whisper(ctranslate2_dir, tmp_path / "model")


def test_messages_are_one_line(write_model_bin, tmp_path):
    file = write_model_bin({"encoder/conv2/bias": np.zeros(9, np.float32)})
    with pytest.raises(ValueError) as caught:
        convert_whisper(file.parent, tmp_path / "model")
    assert "\n" not in str(caught.value) and "conv2.bias" in str(caught.value)


def test_state_dict_covers_the_model(tiny_whisper, ctranslate2_dir):
    file = ctranslate2_dir / "model.bin"
    _, state = whisper_state_dict(read_ctranslate2(file))
    assert state.keys() == tiny_whisper.state_dict().keys()
