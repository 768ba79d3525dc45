"""`espnet-prune encoder prune`."""

import argparse
import json

import numpy as np
import pytest
import soundfile

from espnet_prune.cli.encoder import prune
from espnet_prune.cli.errors import run_or_exit
from test.espnet_prune.tiny import saved


def command(*args):
    parser = argparse.ArgumentParser()
    run_or_exit(prune(parser), parser.parse_args([str(arg) for arg in args]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved("whisper", tmp_path_factory.mktemp("dense"))


def test_a_folder_and_a_file(model, tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, 24000)
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "a.wav", samples, 16000)
    soundfile.write(tmp_path / "b.flac", samples, 16000)
    out = tmp_path / "out"
    options = [
        "--output_dir",
        out,
        "--method",
        "l0",
        "--updates",
        5,
        "--distill_updates",
        2,
        "--device",
        "cpu",
    ]
    command(model, tmp_path / "audio", tmp_path / "b.flac", "--cost", "macs", *options)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["exact"] == pytest.approx(0.5, abs=0.03)
    assert summary["cost"] == "macs" and summary["updates"] == 5
    assert summary["macs_per_second"] < 0.6 * summary["dense_macs_per_second"]


def test_one_shot_trains_nothing(model, tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, 24000)
    soundfile.write(tmp_path / "b.flac", samples, 16000)
    out = tmp_path / "out"
    command(model, tmp_path / "b.flac", "--target", 0.3, "--output_dir", out, "--device", "cpu")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["exact"] == pytest.approx(0.3, abs=0.03) and summary["distill_updates"] == 0


def test_no_audio(model, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        command(model, tmp_path, "--output_dir", tmp_path / "out")
    assert error.value.code == 1
    assert "no audio" in capsys.readouterr().err
