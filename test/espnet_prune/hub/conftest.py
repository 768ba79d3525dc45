"""A tiny random Whisper, as transformers has it and in CTranslate2's binary format."""

import json
import struct

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import WhisperConfig, WhisperForConditionalGeneration

TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def ctranslate2_string(text):
    return struct.pack("<H", len(text) + 1) + text.encode("ascii") + b"\0"


def ctranslate2_bytes(variables, aliases, specification="WhisperSpec", version=6, revision=3):
    data = struct.pack("<I", version) + ctranslate2_string(specification)
    data += struct.pack("<II", revision, len(variables))
    for name, value in variables.items():
        value = np.ascontiguousarray(value).reshape(np.shape(value))
        data += ctranslate2_string(name) + struct.pack("<B", value.ndim)
        data += struct.pack(f"<{value.ndim}I", *value.shape)
        data += struct.pack("<BI", TYPES[value.dtype.name], value.nbytes) + value.tobytes()
    data += struct.pack("<I", len(aliases))
    for alias, name in aliases.items():
        data += ctranslate2_string(alias) + ctranslate2_string(name)
    return data


def whisper_variables(model, dtype=np.float32):
    """A transformers Whisper's weights under CTranslate2's names, stacked as it stacks them."""
    state = {key: value.numpy().astype(dtype) for key, value in model.model.state_dict().items()}
    out = {}

    def pair(target, source):
        for kind in ("weight", "bias"):
            out[f"{target}/{kind}"] = state[f"{source}.{kind}"]

    def norm(target, source):
        out[f"{target}/gamma"], out[f"{target}/beta"] = (
            state[f"{source}.weight"],
            state[f"{source}.bias"],
        )

    def stack(target, source, parts):
        for kind in ("weight", "bias"):
            zero = np.zeros(model.config.d_model, dtype)
            out[f"{target}/{kind}"] = np.concatenate(
                [state.get(f"{source}.{part}_proj.{kind}", zero) for part in parts]
            )

    for side, layers in (
        ("encoder", model.config.encoder_layers),
        ("decoder", model.config.decoder_layers),
    ):
        out[f"{side}/num_heads"] = np.array(
            getattr(model.config, f"{side}_attention_heads"), np.int16
        )
        out[f"{side}/position_encodings/encodings"] = state[f"{side}.embed_positions.weight"]
        norm(f"{side}/layer_norm", f"{side}.layer_norm")
        for i in range(layers):
            new, old = f"{side}/layer_{i}", f"{side}.layers.{i}"
            stack(f"{new}/self_attention/linear_0", f"{old}.self_attn", "qkv")
            pair(f"{new}/self_attention/linear_1", f"{old}.self_attn.out_proj")
            norm(f"{new}/self_attention/layer_norm", f"{old}.self_attn_layer_norm")
            if side == "decoder":
                stack(f"{new}/attention/linear_0", f"{old}.encoder_attn", "q")
                stack(f"{new}/attention/linear_1", f"{old}.encoder_attn", "kv")
                pair(f"{new}/attention/linear_2", f"{old}.encoder_attn.out_proj")
                norm(f"{new}/attention/layer_norm", f"{old}.encoder_attn_layer_norm")
            pair(f"{new}/ffn/linear_0", f"{old}.fc1")
            pair(f"{new}/ffn/linear_1", f"{old}.fc2")
            norm(f"{new}/ffn/layer_norm", f"{old}.final_layer_norm")
    for number in (1, 2):
        pair(f"encoder/conv{number}", f"encoder.conv{number}")
    out["decoder/embeddings/weight"] = state["decoder.embed_tokens.weight"]
    out["decoder/pre_norm"] = np.array(1, np.int8)
    return out


@pytest.fixture
def tiny_whisper():
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=300,
        num_mel_bins=80,
        d_model=16,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=2,
        decoder_attention_heads=4,
        encoder_ffn_dim=24,
        decoder_ffn_dim=20,
        max_source_positions=50,
        max_target_positions=24,
        pad_token_id=256,
        bos_token_id=257,
        eos_token_id=256,
        decoder_start_token_id=257,
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter)).copy_(parameter.half().float())
    return model


def write_tokenizer(path):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        ["<|endoftext|>", "<|startoftranscript|>", "<|startofprev|>", "<|notimestamps|>"]
    )
    tokenizer.save(str(path))


@pytest.fixture
def ctranslate2_dir(tmp_path, tiny_whisper):
    """A directory as a CTranslate2 converter writes it for ``tiny_whisper``."""
    folder = tmp_path / "ctranslate2"
    folder.mkdir()
    alias = {"decoder/projection/weight": "decoder/embeddings/weight"}
    data = ctranslate2_bytes(whisper_variables(tiny_whisper, np.float16), alias)
    (folder / "model.bin").write_bytes(data)
    runtime = {"suppress_ids": [1, 2, 7], "suppress_ids_begin": [220, 256]}
    (folder / "config.json").write_text(json.dumps(runtime))
    write_tokenizer(folder / "tokenizer.json")
    return folder


@pytest.fixture
def write_model_bin(ctranslate2_dir, tiny_whisper):
    """Rewrites model.bin with some variables changed (None: left out) or another header."""

    def write(changes=None, **header):
        variables = whisper_variables(tiny_whisper) | (changes or {})
        variables = {name: value for name, value in variables.items() if value is not None}
        (ctranslate2_dir / "model.bin").write_bytes(ctranslate2_bytes(variables, {}, **header))
        return ctranslate2_dir / "model.bin"

    return write
