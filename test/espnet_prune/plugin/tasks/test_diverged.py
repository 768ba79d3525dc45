"""Trainings that diverge, checkpoints that would run something, two trainings in one place."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from espnet_prune.cli import main
from espnet_prune.plugin.trainer import PATIENCE, finite_losses
from test.espnet_prune.plugin.tasks.test_ssl_prune import (
    ROOT,
    command,
    config,
    corpus,  # noqa: F401  a fixture
    train,
    trained,  # noqa: F401  a fixture
)


def test_a_training_that_diverges_is_an_error(corpus, tmp_path, capsys):  # noqa: F811
    """Of ESPnet's own accord it would go on to its end, and the export would write NaN."""
    from espnet_prune.bin import ssl_prune_train

    args = command(corpus, tmp_path / "exp", config(optim_conf={"lr": 1e30}))
    with pytest.raises(SystemExit) as exit_:
        ssl_prune_train.main(args)
    assert exit_.value.code == 1
    assert "error: " in (error := capsys.readouterr().err) and "diverged" in error
    assert not (tmp_path / "exp" / "checkpoint.pth").exists()  # nothing to go on from
    assert not (tmp_path / "exp" / ".lock").exists()


def test_losses_that_are_no_numbers_in_a_row():
    model = torch.nn.Identity()

    def losses(*values):
        with finite_losses(model, 3, "exp"):
            for value in values:
                model((torch.tensor(value), {}, None))

    losses(1.0, float("nan"), float("inf"), 2.0, float("nan"), float("nan"))  # skipped steps
    with pytest.raises(ValueError, match="exp: the loss is nan in 3 batches in a row: .*diverged"):
        losses(1.0, *[float("nan")] * 3)
    assert PATIENCE > 1 and not model._forward_hooks


@pytest.mark.parametrize("part", ["model", "optimizers"])
def test_a_checkpoint_with_nan_is_not_resumed(corpus, trained, tmp_path, part):  # noqa: F811
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True, symlinks=True)
    states = torch.load(tmp_path / "checkpoint.pth", weights_only=False)
    value = states["model"]["student.encoder.backbone.conv1.weight"]
    if part == "optimizers":
        value = next(iter(states["optimizers"][0]["state"].values()))["exp_avg"]
    value.view(-1)[0] = torch.nan
    torch.save(states, tmp_path / "checkpoint.pth")
    with pytest.raises(ValueError, match=r"checkpoint\.pth: .*tensor .* has NaN or infinite"):
        train(corpus, tmp_path, max_epoch=4)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("file", ["checkpoint.pth", "2epoch.pth", "init.pth"])
def test_what_training_reads_runs_nothing(corpus, trained, tmp_path, monkeypatch, file):  # noqa: F811
    """Checkpoint, epochs to average, initial parameters."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "exp", symlinks=True)
    place = tmp_path / "exp" / file
    torch.save({"model": {}, "reporter": {"epoch": 3}, "x": Evil()}, place)
    args = command(corpus, tmp_path / "exp", config(keep_nbest_models=4, max_epoch=4))
    if file == "init.pth":
        args += ["--init_param", str(place)]
    from espnet_prune.plugin.tasks.ssl_prune import SSLPruneTask

    with pytest.raises(ValueError, match=rf"{file}: holds a '\w+.mkdir' and is not opened"):
        SSLPruneTask.main(cmd=args)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_other_options_is_named(corpus, trained, tmp_path):  # noqa: F811
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True, symlinks=True)
    with pytest.raises(ValueError, match=r"checkpoint\.pth: cannot be resumed") as error:
        train(corpus, tmp_path, pruning_conf=None, max_epoch=4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["student.encoder.backbone.conv1.weight", "log_alpha"])
def test_weights_or_gates_of_nan_are_not_exported(trained, tmp_path, capsys, name):  # noqa: F811
    shutil.copytree(trained, tmp_path / "exp", symlinks=True)
    state = torch.load(trained / "latest.pth", weights_only=True)
    next(value for key, value in state.items() if name in key).view(-1)[0] = torch.nan
    (tmp_path / "exp" / "latest.pth").unlink()
    torch.save(state, tmp_path / "exp" / "latest.pth")
    output = tmp_path / "slim"
    with pytest.raises(SystemExit):
        main(["encoder", "slim", "--train_dir", f"{tmp_path}/exp", "--output_dir", str(output)])
    assert "latest.pth: tensor student." in (error := capsys.readouterr().err), error
    assert "has NaN or infinite values" in error and not output.exists()


def test_a_second_training_in_one_place_is_refused(corpus, tmp_path):  # noqa: F811
    """It would remove what the first one is writing, and replace its config."""
    args = command(corpus, tmp_path, config(max_epoch=500))
    run = [sys.executable, "-m", "espnet_prune.bin.ssl_prune_train", *args]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(run, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.time() + 240
        while not (tmp_path / "1epoch.pth").exists() and time.time() < deadline:
            time.sleep(0.05)
            assert first.poll() is None
        before = (tmp_path / "config.yaml").read_bytes()
        (tmp_path / ".checkpoint.1.tmp.pth").write_bytes(b"being written")
        text = rf"{tmp_path} is in use by process {first.pid} on \S+: .*ssl_prune_train"
        with pytest.raises(ValueError, match=text):
            train(corpus, tmp_path, max_epoch=2)
        assert (tmp_path / ".checkpoint.1.tmp.pth").exists()
        assert (tmp_path / "config.yaml").read_bytes() == before
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    epochs = len(list(tmp_path.glob("*epoch.pth")))
    train(corpus, tmp_path, max_epoch=1)  # the dead one's lock is none
    assert not list(tmp_path.glob(".*")) and epochs
