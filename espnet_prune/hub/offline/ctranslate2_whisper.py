"""Reads a Whisper model in CTranslate2's binary format and writes it as a transformers directory.

The format, little-endian, binary version 6 (a *string* is a uint16 length that counts the final
NUL, then the bytes)::

    uint32 version, string specification, uint32 revision
    uint32 number of variables, then each:
        string name, uint8 rank, uint32 dimension x rank, uint8 type, uint32 bytes, the data
    uint32 number of aliases, then each: string alias, string name of a variable

CTranslate2 stacks projections that read the same input: ``linear_0`` of self-attention is query,
key and value; in cross-attention ``linear_0`` is the query and ``linear_1`` key and value.

A file that is missing raises FileNotFoundError, and one that is another model, quantised, cut short
or goes on after its end ValueError.
"""

import math
import re
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_json

BINARY_VERSION = 6
MAX_RANK = 8
# CTranslate2's type number -> numpy type.
DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
# From this vocabulary size on a Whisper model is multilingual (openai/whisper, model.py).
MULTILINGUAL_VOCABULARY = 51865
_LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")
# What linear_0, linear_1, … of an attention stack.
PROJECTIONS = {"self_attention": ("qkv", ["out"]), "attention": ("q", "kv", ["out"])}


@dataclass(frozen=True)
class CTranslate2File:
    """Content of a CTranslate2 ``model.bin``, without the aliases."""

    path: Path
    specification: str
    revision: int
    variables: dict[str, np.ndarray]


class _Reader:
    """Reads from a byte string and says where and in what the file ends too early."""

    def __init__(self, path: Path, data: bytes):
        self.path, self.data, self.offset = path, data, 0

    def take(self, size: int, what: str) -> memoryview:
        left = len(self.data) - self.offset
        if size > left:
            text = f"{what} needs {size} bytes at byte {self.offset}, {left} are left"
            raise ValueError(f"{self.path}: not a whole CTranslate2 model: {text}")
        view = memoryview(self.data)[self.offset : self.offset + size]
        self.offset += size
        return view

    def number(self, code: str, what: str) -> int:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code), what))[0]

    def string(self, what: str) -> str:
        raw = bytes(self.take(self.number("H", f"the length of {what}"), what))
        if not raw.endswith(b"\0") or not raw[:-1].isascii():
            text = f"{what} before byte {self.offset} is no NUL-terminated ASCII string"
            raise ValueError(f"{self.path}: not a CTranslate2 model: {text}")
        return raw[:-1].decode("ascii")


def _read_variable(reader: _Reader) -> tuple[str, np.ndarray]:
    name = reader.string("a variable's name")
    rank = reader.number("B", f"the rank of {name}")
    if rank > MAX_RANK:
        raise ValueError(f"{reader.path}: variable {name} has rank {rank}, more than {MAX_RANK}")
    shape = tuple(reader.number("I", f"the shape of {name}") for _ in range(rank))
    type_number = reader.number("B", f"the type of {name}")
    if type_number not in DTYPES:
        raise ValueError(f"{reader.path}: variable {name} has the unknown type {type_number}")
    dtype = np.dtype(DTYPES[type_number])
    size, wanted = reader.number("I", f"the size of {name}"), math.prod(shape) * dtype.itemsize
    if size != wanted:
        variable = f"variable {name} of shape {shape} and type {dtype.name}"
        raise ValueError(f"{reader.path}: {variable} has {size} bytes instead of {wanted}")
    return name, np.frombuffer(reader.take(size, name), dtype=dtype).reshape(shape)


def read_ctranslate2(path: str | Path) -> CTranslate2File:
    """Read every variable of a CTranslate2 ``model.bin``."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file (expected a CTranslate2 model.bin)")
    reader = _Reader(path, path.read_bytes())
    version = reader.number("I", "the version")
    if version != BINARY_VERSION:
        text = f"binary version {BINARY_VERSION} (the first four bytes say {version})"
        raise ValueError(f"{path}: not a CTranslate2 model of {text}")
    specification = reader.string("the specification")
    revision = reader.number("I", "the revision")
    count = reader.number("I", "the number of variables")
    variables = dict(_read_variable(reader) for _ in range(count))
    if len(variables) != count:
        raise ValueError(f"{path}: {count - len(variables)} variables have a name twice")
    for _ in range(reader.number("I", "the number of aliases")):
        reader.string("an alias")
        reader.string("an alias's variable")
    left = len(reader.data) - reader.offset
    if left:
        raise ValueError(f"{path}: {left} bytes after the last entry of the model")
    return CTranslate2File(path, specification, revision, variables)


class _Weights:
    """Hands out the variables of a model once each, as float32 tensors."""

    def __init__(self, model: CTranslate2File):
        self.path, self.left = model.path, dict(model.variables)

    def raw(self, name: str) -> np.ndarray:
        if name not in self.left:
            raise ValueError(f"{self.path}: no variable {name}: not a Whisper model")
        return self.left.pop(name)

    def tensor(self, name: str) -> torch.Tensor:
        value = self.raw(name)
        if value.dtype.kind != "f":
            text = f"variable {name} is {value.dtype.name}, not float16 or float32"
            raise ValueError(f"{self.path}: {text}; quantised models cannot be converted")
        return torch.from_numpy(value.astype(np.float32))

    def stacked(self, name: str, parts: int) -> tuple[torch.Tensor, ...]:
        value = self.tensor(name)
        if value.shape[0] % parts:
            variable = f"variable {name} of shape {tuple(value.shape)}"
            raise ValueError(f"{self.path}: {variable} does not hold {parts} stacked projections")
        return value.chunk(parts)


def _attention(weights: _Weights, source: str, name: str) -> dict[str, torch.Tensor]:
    """The projections of one attention sub-layer, without its layer norm."""
    state = {}
    for number, stack in enumerate(PROJECTIONS[source.rpartition("/")[2]]):
        for kind in ("weight", "bias"):
            parts = weights.stacked(f"{source}/linear_{number}/{kind}", len(stack))
            for projection, part in zip(stack, parts, strict=True):
                state[f"{name}.{projection}_proj.{kind}"] = part
    # Whisper's key projection has no bias; CTranslate2 stacks zeros in its place.
    if state.pop(f"{name}.k_proj.bias").count_nonzero():
        raise ValueError(f"{weights.path}: {source} has a key bias, which Whisper has not")
    return state


def _pair(weights: _Weights, source: str, name: str) -> dict[str, torch.Tensor]:
    """Weight and bias of a projection, a convolution or, as gamma and beta, a layer norm."""
    weight, bias = ("gamma", "beta") if source.endswith("layer_norm") else ("weight", "bias")
    return {
        f"{name}.weight": weights.tensor(f"{source}/{weight}"),
        f"{name}.bias": weights.tensor(f"{source}/{bias}"),
    }


def _layer(weights: _Weights, scope: str, name: str) -> dict[str, torch.Tensor]:
    state = _attention(weights, f"{scope}/self_attention", f"{name}.self_attn")
    pairs = {
        "self_attention/layer_norm": "self_attn_layer_norm",
        "ffn/linear_0": "fc1",
        "ffn/linear_1": "fc2",
        "ffn/layer_norm": "final_layer_norm",
    }
    if scope.startswith("decoder/"):
        state |= _attention(weights, f"{scope}/attention", f"{name}.encoder_attn")
        pairs["attention/layer_norm"] = "encoder_attn_layer_norm"
    for source, target in pairs.items():
        state |= _pair(weights, f"{scope}/{source}", f"{name}.{target}")
    return state


def _number_of_layers(model: CTranslate2File, side: str) -> int:
    layers = (re.match(rf"{side}/layer_(\d+)/", name) for name in model.variables)
    return len({layer[1] for layer in layers if layer})


def whisper_state_dict(model: CTranslate2File) -> tuple[WhisperConfig, dict[str, torch.Tensor]]:
    """Rename a CTranslate2 Whisper's variables to transformers' parameters.

    Returns:
        the architecture (token ids are not known here) and the state dict of
        ``WhisperForConditionalGeneration`` in float32.
    """
    path = model.path
    if model.specification != "WhisperSpec":
        raise ValueError(f"{path}: holds a {model.specification}, not a Whisper model")
    weights = _Weights(model)
    heads = {side: int(weights.raw(f"{side}/num_heads")) for side in ("encoder", "decoder")}
    layers = {side: _number_of_layers(model, side) for side in ("encoder", "decoder")}
    if not all(layers.values()):
        raise ValueError(f"{path}: not a Whisper model: it has no layers")

    embeddings = weights.tensor("decoder/embeddings/weight")
    state = {"model.decoder.embed_tokens.weight": embeddings, "proj_out.weight": embeddings}
    for side in ("encoder", "decoder"):
        positions = weights.tensor(f"{side}/position_encodings/encodings")
        state[f"model.{side}.embed_positions.weight"] = positions
        for number in range(layers[side]):
            state |= _layer(weights, f"{side}/layer_{number}", f"model.{side}.layers.{number}")
        state |= _pair(weights, f"{side}/layer_norm", f"model.{side}.layer_norm")
    for conv in ("conv1", "conv2"):
        state |= _pair(weights, f"encoder/{conv}", f"model.encoder.{conv}")
    # What is left over may be switches of the runtime (scalars), never weights.
    surplus = sorted(name for name, value in weights.left.items() if value.ndim > 0)
    if surplus:
        raise ValueError(f"{path}: variables that a Whisper model does not have: {surplus}")

    config = WhisperConfig(
        vocab_size=embeddings.shape[0],
        num_mel_bins=state["model.encoder.conv1.weight"].shape[1],
        d_model=embeddings.shape[1],
        encoder_layers=layers["encoder"],
        decoder_layers=layers["decoder"],
        encoder_attention_heads=heads["encoder"],
        decoder_attention_heads=heads["decoder"],
        encoder_ffn_dim=state["model.encoder.layers.0.fc1.weight"].shape[0],
        decoder_ffn_dim=state["model.decoder.layers.0.fc1.weight"].shape[0],
        max_source_positions=state["model.encoder.embed_positions.weight"].shape[0],
        max_target_positions=state["model.decoder.embed_positions.weight"].shape[0],
        activation_function="gelu",
        tie_word_embeddings=True,
    )
    return config, state


def _token_settings(source: Path, multilingual: bool) -> tuple[dict[str, int], dict]:
    """Whisper's special tokens under transformers' names: for the model, and for generation only.

    They stand in tokenizer.json, and those that must not be written in config.json, with the
    attention heads of the decoder that tell when a word is said.
    """
    file = source / "tokenizer.json"
    try:
        ids = {token["content"]: token["id"] for token in read_record(file)["added_tokens"]}
        start, end = ids["<|startoftranscript|>"], ids["<|endoftext|>"]
        special = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
        generation = {"no_timestamps_token_id": ids["<|notimestamps|>"]}
        generation["prev_sot_token_id"] = ids["<|startofprev|>"]
        file = source / "config.json"
        config = read_record(file)
        generation["suppress_tokens"] = config["suppress_ids"]
        generation["begin_suppress_tokens"] = config["suppress_ids_begin"]
        if config.get("alignment_heads"):
            generation["alignment_heads"] = config["alignment_heads"]
        if multilingual:  # the English-only models have these tokens, too, but never write them
            tasks = ("transcribe", "translate")
            generation["task_to_id"] = {task: ids[f"<|{task}|>"] for task in tasks}
            languages = {name: id for name, id in ids.items() if _LANGUAGE.fullmatch(name)}
            generation["lang_to_id"] = languages
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: not a CTranslate2 Whisper's ({error!r})") from error
    return {**special, "decoder_start_token_id": start}, generation


def convert_whisper(source: str | Path, target: str | Path) -> None:
    """Convert a CTranslate2 directory of a Whisper to a transformers directory.

    Args:
        source: holds ``model.bin``, ``config.json`` (tokens to suppress) and ``tokenizer.json``.
        target: new directory for ``model.safetensors`` (float32), ``config.json``,
            ``generation_config.json``, ``preprocessor_config.json`` and the tokenizer.
    """
    source, target = Path(source), Path(target)
    file = source / "model.bin"
    config, state = whisper_state_dict(read_ctranslate2(file))
    multilingual = config.vocab_size >= MULTILINGUAL_VOCABULARY
    special, generation = _token_settings(source, multilingual)
    config.update(special)
    # No random start is needed for weights that are all replaced.
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(config)
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file}: not a Whisper model: {reason}") from error
    model.tie_weights()
    model.generation_config = GenerationConfig(
        **special,
        **generation,
        is_multilingual=multilingual,
        return_timestamps=False,
        max_length=config.max_target_positions,
    )
    model.save_pretrained(target)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(target)
    _save_tokenizer(source / "tokenizer.json", target, config.max_target_positions)


def _save_tokenizer(tokenizer_file: Path, target: Path, max_length: int) -> None:
    """Put the tokenizer beside the model so that ``AutoTokenizer`` finds Whisper's class."""
    shutil.copyfile(tokenizer_file, target / "tokenizer.json")
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    settings = {"tokenizer_class": "WhisperTokenizer", **dict.fromkeys(names, "<|endoftext|>")}
    write_json(target / "tokenizer_config.json", {**settings, "model_max_length": max_length})
    AutoTokenizer.from_pretrained(target, trust_remote_code=False)
