"""No configuration makes `transformers` fetch code from the hub, whoever loads it."""

import json

import pytest
from transformers import AutoModel

from espnet_prune.files.model_config import check_model_config, check_model_directory
from espnet_prune.hub.pretrained import validate_language_model
from espnet_prune.speech_llm import Diva, Qwen2Audio
from espnet_prune.speech_llm.compact.model import load_language_model
from espnet_prune.structured import SpeechEncoder, load_encoder
from espnet_prune.structured.distill.decoder import Decoder
from espnet_prune.structured.encoder import random_encoder
from espnet_prune.structured.whisper_decoder import load_with_decoder
from test.espnet_prune.speech_llm.models import llama
from test.espnet_prune.tiny import saved

KERNEL = "someone/attention"


def edited(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    return folder


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("value", [KERNEL, f"{KERNEL}@main:flash", f"paged|{KERNEL}", 1])
@pytest.mark.parametrize("nest", [lambda c: c, lambda c: {"a": {"b": c}}, lambda c: {"a": [1, c]}])
def test_names_of_repositories_are_refused_wherever_they_stand(key, value, nest):
    for entry in (value, {"": "sdpa", "text_config": value}):
        with pytest.raises(ValueError, match=f"^config.json: key '{key}' is {value!r}, choose"):
            check_model_config(nest({key: entry}), "config.json")
    for entry in ("sdpa", "eager", "flash_attention_2", "flex_attention", None, {"": "eager"}):
        check_model_config(nest({key: entry, "layers": [1, 2]}), "config.json")


@pytest.mark.parametrize("layout", ["whisper", "hubert-base"])
def test_dense_and_pruned_encoders(layout, tmp_path):
    folder = saved(layout, tmp_path / "dense")
    load_encoder(edited(folder, attn_implementation="eager")).save_pretrained(tmp_path / "own")
    own = tmp_path / "own"
    base = json.loads((own / "config.json").read_text())["base"]
    for wrong in (
        edited(folder, _attn_implementation=KERNEL),
        edited(own, base={**base, "attn_implementation": KERNEL}),
        edited(own, base=base, attn_implementation=KERNEL),
    ):
        for load in (load_encoder, random_encoder):
            with pytest.raises(ValueError, match=f"{wrong}/config.json: key '.*'{KERNEL}'"):
                load(wrong)
    for load in (AutoModel, SpeechEncoder):  # by `transformers`' own ways
        with pytest.raises(ValueError, match=f"config.json: key '.*'{KERNEL}'"):
            load.from_pretrained(own)
    with pytest.raises(ValueError, match=f"key '.*'{KERNEL}'"):
        random_encoder(folder / "config.json")


def test_whole_models(tmp_path):
    llama(20).save_pretrained(tmp_path / "lm")
    language_model = edited(tmp_path / "lm", attn_implementation=KERNEL)
    whisper = edited(saved("whisper", tmp_path / "whisper"), attn_implementation=KERNEL)
    clean = saved("whisper", tmp_path / "clean")
    for load in (
        lambda: load_language_model(language_model),
        lambda: validate_language_model(language_model),
        lambda: check_model_directory(language_model),
        lambda: Qwen2Audio.from_pretrained(str(language_model)),
        lambda: Diva.from_pretrained(str(language_model), trust_remote_code=True),
        lambda: Decoder(whisper),
        lambda: load_with_decoder(whisper, str(clean)),
    ):
        with pytest.raises(ValueError, match=f"config.json: key '.*'{KERNEL}'"):
            load()


def test_code_beside_a_language_model_is_neither_run_nor_asked_about(tmp_path, monkeypatch):
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # who sits at a terminal
    for load in (load_language_model, validate_language_model):
        with pytest.raises(ValueError):
            load(tmp_path)
    assert not (tmp_path / "ran").exists()
