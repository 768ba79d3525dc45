import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from espnet_prune.cli import main
from espnet_prune.files.lock import held
from espnet_prune.structured import load_encoder
from espnet_prune.structured.encoder_directory import removed_share, size_line, sizes, write_encoder


def test_a_directory_is_swapped_in_whole(tiny, tmp_path):
    encoder, output = load_encoder(tiny["whisper"]), tmp_path / "encoder"
    summary = sizes(encoder)
    write_encoder(encoder, output, summary, lambda work: (work / "kept.png").write_bytes(b"plot"))
    names = {"config.json", "model.safetensors", "summary.json", "kept.png"}
    assert {file.name for file in output.iterdir()} == names
    assert json.loads((output / "summary.json").read_text()) == summary
    assert removed_share(output) == 0 and "(0.0% fewer)" in size_line(summary)

    def fail(work):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_encoder(encoder, output, add=fail)
    assert {file.name for file in output.iterdir()} == names  # the old one is untouched
    write_encoder(encoder, output)
    assert {file.name for file in output.iterdir()} == {"config.json", "model.safetensors"}
    assert load_encoder(output).kept == encoder.kept
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_other_files_are_never_deleted(tiny, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="holds thesis.tex, which is not part of an encoder"):
        write_encoder(load_encoder(tiny["whisper"]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_model_that_is_not_ours_is_never_replaced(tiny, tmp_path):
    """Its files have the names of ours."""
    model = shutil.copytree(tiny["whisper"], tmp_path / "model")
    before = {file.name: file.read_bytes() for file in model.iterdir() if file.stat().st_size < 1e6}
    for name in set(before) - {"config.json", "model.safetensors"}:
        (model / name).unlink()
    encoder = load_encoder(model)
    with pytest.raises(ValueError, match="model: holds files that espnet_prune has not written"):
        write_encoder(encoder, model)
    (tmp_path / "link").symlink_to("model")
    (tmp_path / "file").touch()
    (tmp_path / "mine" / "kept.png").mkdir(parents=True)
    for name, message in (("link", "a link"), ("file", "no directory"), ("mine", "kept.png")):
        with pytest.raises(ValueError, match=message):
            write_encoder(encoder, tmp_path / name)
    assert (model / "config.json").read_bytes() == before["config.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "mine", "model"]


@pytest.mark.parametrize("verb", ["prune", "one-shot", "random", "scratch", "slim", "import"])
def test_every_command_refuses_it_first(verb, tmp_path, capsys):
    """Before it reads or computes anything."""
    (tmp_path / "exp" / "thesis").mkdir(parents=True)
    (tmp_path / "exp" / "thesis" / "chapter1.tex").write_text("years of work")
    given = {
        "prune": ["none", "none.wav"],
        "one-shot": ["--teacher", "none", "--data", "none"],
        "random": ["--teacher", "none"],
        "scratch": ["--like", "none"],
        "slim": ["--train_dir", "none"],
        "import": ["--checkpoint", "none"],
    }[verb]
    with pytest.raises(SystemExit):
        main(["encoder", verb, *given, "--output_dir", str(tmp_path / "exp")])
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {tmp_path}/exp: holds thesis, which is not part")
    assert (tmp_path / "exp" / "thesis" / "chapter1.tex").read_text() == "years of work"


def test_two_at_once_in_one_directory(tiny, tmp_path):
    encoder = load_encoder(tiny["whisper"])
    with held(tmp_path / ".encoder.espnet_prune.lock", "x"):
        text = rf"encoder is in use by process {os.getpid()} on"
        with pytest.raises(ValueError, match=text):
            write_encoder(encoder, tmp_path / "encoder")
    write_encoder(encoder, tmp_path / "encoder")
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_killed_between_two_renames(tiny, tmp_path):
    encoder = load_encoder(tiny["whisper"])
    write_encoder(encoder, tmp_path / "encoder", {"number": 1})
    (tmp_path / "encoder").rename(tmp_path / ".encoder.espnet_prune.old")

    def fail(work):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_encoder(encoder, tmp_path / "encoder", {"number": 2}, fail)
    assert json.loads((tmp_path / "encoder" / "summary.json").read_text()) == {"number": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


@pytest.mark.parametrize(
    ("value", "message"),
    [(torch.nan, "tensor backbone.conv1.weight has NaN"), (1e30, "gives NaN or infinite hidden")],
)
def test_an_encoder_that_diverged_is_not_written(tiny, tmp_path, value, message):
    encoder = load_encoder(tiny["whisper"])
    with torch.no_grad():
        encoder.backbone.conv1.weight.fill_(value)
        encoder.backbone.conv2.weight.fill_(value)
    with pytest.raises(ValueError, match=message):
        write_encoder(encoder, tmp_path / "encoder")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fails", ["save_pretrained", "sync", "swap"])
def test_a_full_disk_leaves_the_old_one(tiny, tmp_path, monkeypatch, fails):
    encoder = load_encoder(tiny["whisper"])
    write_encoder(encoder, tmp_path / "encoder", {"number": 1})

    def full(*args):
        if fails == "sync":
            raise OSError(errno.ENOSPC, "No space left on device", "a temporary name")
        raise SafetensorError("I/O error: No space left on device")

    rename = Path.rename

    def swap(source, target):
        if source.name.endswith(".tmp"):
            raise OSError(errno.ENOSPC, "No space left on device", "a temporary name")
        return rename(source, target)

    if fails == "swap":
        monkeypatch.setattr(Path, "rename", swap)
    elif fails == "sync":
        monkeypatch.setattr("espnet_prune.structured.encoder_directory._sync", full)
    else:
        monkeypatch.setattr(encoder, fails, full)
    with pytest.raises(OSError, match="No space left on device") as error:
        write_encoder(encoder, tmp_path / "encoder", {"number": 2})
    assert str(tmp_path / "encoder") in str(error.value)
    assert json.loads((tmp_path / "encoder" / "summary.json").read_text()) == {"number": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
