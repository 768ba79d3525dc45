import json

from safetensors.torch import load_file, save_file

from espnet_prune.cli import main
from test.espnet_prune.commands import error_of
from test.espnet_prune.speech_llm.models import llama, tokenizer
from test.espnet_prune.tiny import dense_model


def test_a_directory_is_checked_to_be_of_its_kind(tmp_path, capsys):
    for model in (dense_model("whisper"), llama(50)):
        model.save_pretrained(tmp_path / model.config.model_type)
    tokenizer().save_pretrained(tmp_path / "llama")
    options = ["hub", "fetch", "--output_dir", str(tmp_path / "got"), "--model"]
    error = error_of(capsys, *options, tmp_path / "llama")
    assert error.startswith(f"error: {tmp_path / 'llama'}") and not (tmp_path / "got").exists()
    main([*options, str(tmp_path / "whisper")])
    assert json.loads((tmp_path / "got" / "origin.json").read_text())["source"]


def test_a_language_model_without_some_weights(tmp_path, capsys):
    llama(50).save_pretrained(tmp_path / "lm")
    tokenizer().save_pretrained(tmp_path / "lm")
    options = ["hub", "fetch", "--kind", "language_model", "--model", str(tmp_path / "lm")]
    main([*options, "--output_dir", str(tmp_path / "got")])
    weights = load_file(tmp_path / "lm" / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, tmp_path / "lm" / "model.safetensors", {"format": "pt"})
    error = error_of(capsys, *options, "--output_dir", tmp_path / "other")
    assert error == (
        f"error: {tmp_path / 'lm'}: not a language model: model.norm.weight is missing"
    )
