"""What the inference commands share; the models themselves run in the recipes' tests."""

import sys
import types

import numpy as np
import pytest
import soundfile
import torch

from espnet_prune.bin import diar_inference, spk_inference
from espnet_prune.data import data_dir
from espnet_prune.plugin.inference import get_parser, load, write_arrays


@pytest.fixture
def arguments(tmp_path):
    """Options for two utterances of 400 and 800 samples, the second one in the file of keys."""
    scp = {}
    for name, samples in (("a", 400), ("b", 800)):
        scp[name] = tmp_path / f"{name}.wav"
        soundfile.write(scp[name], np.full(samples, 0.5), 16000)
    data_dir.write_table(tmp_path / "wav.scp", scp)
    (tmp_path / "keys").write_text("b anything\n")
    line = ["--data_path_and_name_and_type", f"{tmp_path / 'wav.scp'},speech,sound"]
    line += ["--output_dir", str(tmp_path / "out"), "--train_config", str(tmp_path / "config.yaml")]
    return [*line, "--model_file", str(tmp_path / "model.pth")]


def mean_and_length(speech):
    if speech.shape[1] < 500:
        raise ValueError("too short")
    return np.array([speech.mean(), speech.shape[1]])


def test_arrays_and_their_table(arguments, tmp_path):
    args = get_parser("").parse_args([*arguments, "--key_file", str(tmp_path / "keys")])
    write_arrays(args, "embed", "cpu", mean_and_length)
    table = data_dir.read_table(tmp_path / "out" / "embed.scp")
    assert list(table) == ["b"]
    assert np.load(table["b"]).tolist() == [0.5, 800]


def test_bad_utterances(arguments, tmp_path):
    args = get_parser("").parse_args(arguments)
    with pytest.raises(ValueError, match=r"/a.wav: too short"):
        write_arrays(args, "embed", "cpu", mean_and_length)
    assert not (tmp_path / "out" / "embed.scp").exists()
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8000)
    with pytest.raises(ValueError, match=r"/a.wav: has 8000 Hz instead of 16000 Hz"):
        write_arrays(args, "embed", "cpu", mean_and_length)
    (tmp_path / "keys").write_text("c\n")
    args = get_parser("").parse_args([*arguments, "--key_file", str(tmp_path / "keys")])
    with pytest.raises(ValueError, match=r"keys: c is not in .*wav.scp"):
        write_arrays(args, "embed", "cpu", mean_and_length)


@pytest.mark.parametrize("command", [spk_inference, diar_inference])
def test_training_is_missing(command, arguments, tmp_path, capsys):
    def error(*options):
        with pytest.raises(SystemExit) as ended:
            command.main([*arguments, *options])
        assert ended.value.code == 1
        return capsys.readouterr().err.splitlines()[-1]

    assert error() == f"error: {tmp_path / 'config.yaml'}: no such file; train first"
    (tmp_path / "config.yaml").touch()
    assert error() == f"error: {tmp_path / 'model.pth'}: no such file; train first"
    (tmp_path / "model.pth").touch()
    assert error("--ngpu", "2") == "error: --ngpu 2: give 0 or 1"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.full((1, 1), torch.nan)}, "model.pth: tensor weight has NaN or infinite"),
        (
            {"weight": torch.ones(1, 1), "x": print},
            "model.pth: holds a '.*print' and is not opened",
        ),
    ],
)
def test_weights_are_numbers_and_nothing_else(arguments, tmp_path, monkeypatch, state, message):
    """ESPnet would unpickle whatever there is."""

    class Task:
        @staticmethod
        def build_model_from_file(config, file, device):
            model = torch.nn.Linear(1, 1, bias=False)
            model.load_state_dict(torch.load(file, map_location=device, weights_only=False))
            return model, None

    monkeypatch.setitem(sys.modules, "espnet2.tasks.stub", types.SimpleNamespace(StubTask=Task))
    args = get_parser("").parse_args(arguments)
    args.train_config.touch()
    torch.save(state, args.model_file)
    with pytest.raises(ValueError, match=message):
        load("stub.StubTask", args, "cpu")


def test_segments_and_names_that_no_file_can_have(arguments, tmp_path):
    args = get_parser("").parse_args(arguments)
    (tmp_path / "segments").write_text("u a 0.0 0.1\n")
    with pytest.raises(ValueError, match="segments: whole recordings are read here; cut them by"):
        write_arrays(args, "embed", "cpu", mean_and_length)
    (tmp_path / "segments").unlink()
    (tmp_path / "wav.scp").write_text(f"../x {tmp_path / 'b.wav'}\n")
    with pytest.raises(ValueError, match="'../x' cannot be the name of a file"):
        write_arrays(args, "embed", "cpu", mean_and_length)
