"""The task through ESPnet's own trainer, on a tiny Whisper and synthetic utterances."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_prune.cli import main
from espnet_prune.evaluate.pruning_report import read_history
from espnet_prune.plugin.tasks.ssl_prune import ESPnetDistillModel, SSLPruneTask, check_utterance
from espnet_prune.plugin.trained_model import load_trained
from espnet_prune.plugin.trainer import atomic_torch_save, mixed_precision, thinned
from espnet_prune.structured import load_encoder
from espnet_prune.structured.distill import PruningConf
from test.espnet_prune.tiny import batch, saved

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Six utterances of noise, a teacher and a config."""
    directory = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(0)
    scp, shape = [], []
    for n in range(6):
        samples = 16000 + 320 * n
        soundfile.write(directory / f"{n}.wav", generator.normal(size=samples) * 0.1, 16000)
        scp.append(f"utt{n} {directory / f'{n}.wav'}\n")
        shape.append(f"utt{n} {samples}\n")
    (directory / "wav.scp").write_text("".join(scp))
    (directory / "shape").write_text("".join(shape))
    saved("whisper", directory / "teacher")
    return directory


def config(**changes) -> dict:
    return {
        "pruning_conf": {
            "target": 0.4,
            "ramp_updates": 6,
            "gate_lr": 0.3,
            "multiplier_lr": 0.3,
            "init": 1.0,
        },
        "optim": "adamw",
        "optim_conf": {"lr": 1e-3},
        "max_epoch": 3,
        "batch_type": "unsorted",
        "batch_size": 2,
        "num_workers": 0,
        "keep_nbest_models": 3,
        "best_model_criterion": [["valid", "distill", "min"]],
        "num_att_plot": 0,
        "use_matplotlib": False,
        "log_interval": 1,
        **changes,
    }


def command(corpus, output_dir, conf) -> list[str]:
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / "train.yaml").write_text(yaml.safe_dump(conf))
    args = ["--config", str(output_dir / "train.yaml"), "--teacher", str(corpus / "teacher")]
    for part in ("train", "valid"):
        args += [f"--{part}_data_path_and_name_and_type", f"{corpus}/wav.scp,speech,sound"]
        args += [f"--{part}_shape_file", f"{corpus}/shape"]
    return [*args, "--output_dir", str(output_dir), "--resume", "true"]


def train(corpus, output_dir, **changes):
    SSLPruneTask.main(cmd=command(corpus, output_dir, config(**changes)))


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    directory = tmp_path_factory.mktemp("exp") / "prune"
    train(corpus, directory)
    return directory


def test_both_phases(corpus, trained, tmp_path):
    rows = read_history(trained / "updates.jsonl")
    assert [row["update"] for row in rows] == list(range(9))
    checks = read_history(trained / "valid.jsonl")
    assert [row["update"] for row in checks] == [3, 6, 9] and checks[0]["distill"] > 0
    assert {"sparsity_target", "sparsity_expected", "sparsity_exact", "lambda1"} <= set(rows[0])
    assert rows[-1]["lambda1"] < 0  # too dense at first: sparsity was rewarded
    assert (trained / "images" / "course.png").stat().st_size > 1000
    assert (trained / "images" / "kept.png").stat().st_size > 1000
    assert list((trained / "tensorboard" / "train").iterdir())
    state = torch.load(trained / "latest.pth", weights_only=True)
    assert int(state["updates"]) == 9

    slim_dir = tmp_path / "slim"
    main(["encoder", "slim", "--train_dir", str(trained), "--output_dir", str(slim_dir)])
    summary = json.loads((slim_dir / "summary.json").read_text())
    assert summary["exact"] == pytest.approx(0.4, abs=0.02)
    small = load_encoder(slim_dir)
    assert sum(p.numel() for p in small.parameters()) == summary["parameters"]

    train(corpus, tmp_path / "distill", pruning_conf=None, student=str(slim_dir), max_epoch=2)
    dirs = ["--train_dir", f"{tmp_path}/distill", "--output_dir", f"{tmp_path}/pruned"]
    main(["encoder", "slim", *dirs])
    final = load_encoder(tmp_path / "pruned")
    assert sum(p.numel() for p in final.parameters()) == summary["parameters"]
    assert not torch.equal(final.backbone.conv2.weight, small.backbone.conv2.weight)


def test_targets_on_the_way(corpus, tmp_path, capsys):
    conf = {**config()["pruning_conf"], "target": 0.5, "targets": [0.1, 0.3], "round_to": 2}
    conf |= {"ramp_updates": 9, "gate_lr": 0.5, "multiplier_lr": 0.5}
    (tmp_path / "target_0.3.pth").touch()
    torch.save({"updates": torch.tensor(5)}, tmp_path / "target_0.3.pth")  # of a run before
    train(corpus, tmp_path, pruning_conf=conf, max_epoch=8)
    model = load_trained(tmp_path, "latest.pth")
    made = []
    for target in (0.1, 0.3):
        state = torch.load(tmp_path / f"target_{target}.pth", weights_only=True)
        model.load_state_dict(state)
        reached = model.student.expected_sparsity().item()
        assert target <= reached < target + 0.1
        made.append(int(state["updates"]))
        output = tmp_path / f"slim_{target}"
        args = ["--train_dir", str(tmp_path), "--output_dir", str(output)]
        main(["encoder", "slim", *args, "--target", str(target)])
        summary = json.loads((output / "summary.json").read_text())
        assert summary["exact"] == pytest.approx(target, abs=0.03)
        assert summary["updates"] == made[-1] and summary["round_to"] == 2
        load_encoder(output)
    assert 0 < made[0] < made[1] < 24
    whole = ["--train_dir", str(tmp_path), "--output_dir", str(tmp_path / "all")]
    main(["encoder", "slim", *whole, "--all_targets", "true"])
    for name, updates in (("all", 24), ("all_0.1", made[0]), ("all_0.3", made[1])):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["updates"] == updates
    (tmp_path / "target_0.3.pth").rename(tmp_path / "kept.pth")
    shutil.rmtree(tmp_path / "all_0.3")
    main(["encoder", "slim", *whole, "--all_targets", "true"])  # the others are made
    assert "target_0.3.pth: missing: the expected sparsity never came" in capsys.readouterr().err
    assert not (tmp_path / "all_0.3").exists()
    main(["encoder", "slim", *args, "--target", "0.45"])  # of the last weights
    assert json.loads((output / "summary.json").read_text())["updates"] == 24
    with pytest.raises(SystemExit):
        main(["encoder", "slim", *args, "--target", "1.5"])
    assert "error: --target is 1.5, but has to be in [0, 1)" in capsys.readouterr().err


def assert_same_epochs(one: Path, other: Path) -> None:
    """To the bit, at every boundary of epochs; three updates make one."""
    for epoch in (1, 2, 3):
        a, b = (torch.load(d / f"{epoch}epoch.pth", weights_only=True) for d in (one, other))
        assert int(a["updates"]) == 3 * epoch and a.keys() == b.keys()
        for name in a:
            assert torch.equal(a[name], b[name]), (epoch, name)


def test_a_seed_gives_the_same_result_and_resume_goes_on(corpus, trained, tmp_path):
    train(corpus, tmp_path, max_epoch=1)
    train(corpus, tmp_path, max_epoch=3)  # resumes
    assert_same_epochs(trained, tmp_path)
    assert read_history(trained / "updates.jsonl") == read_history(tmp_path / "updates.jsonl")


def test_the_librispeech_recipe_s_settings_resume_to_the_bit(corpus, tmp_path):
    """WavLM, crops, batches by length in another order each pass, epochs that are no passes,
    accumulation, bfloat16, a schedule."""
    recipe = ROOT / "egs2/librispeech/ssl_prune1/conf/prune_base.yaml"
    conf = yaml.safe_load(recipe.read_text())
    teacher = str(saved("wavlm-base", tmp_path / "teacher"))
    conf |= {"teacher": teacher, "max_epoch": 3, "num_iters_per_epoch": 6, "accum_grad": 2}
    conf |= {"crop_seconds": 0.7, "batch_bins": 24000, "keep_nbest_models": 3, "num_workers": 0}
    conf["optim_conf"]["lr"] = 1.0e-3
    conf["model_conf"]["layers"] = None
    conf["scheduler_conf"]["max_steps"] = 9
    conf["pruning_conf"] = {"ramp_updates": 2, "init": 4.5, "gate_lr": 0.2, "multiplier_lr": 0.1}
    conf["pruning_conf"]["target"] = 0.4
    for name, epochs in (("whole", 3), ("cut", 1), ("cut", 3)):
        args = command(corpus, tmp_path / name, {**conf, "max_epoch": epochs})
        SSLPruneTask.main(cmd=[*args, "--teacher", teacher])
    assert_same_epochs(tmp_path / "whole", tmp_path / "cut")
    rows = read_history(tmp_path / "whole" / "updates.jsonl")
    assert rows == read_history(tmp_path / "cut" / "updates.jsonl")
    assert len({row["distill"] for row in rows}) == len(rows) == 18


def test_kill_and_resume(corpus, trained, tmp_path):
    """Killed while it trains; what is there afterwards loads, and the rest follows."""
    args = [sys.executable, "-m", "espnet_prune.bin.ssl_prune_train"]
    args += command(corpus, tmp_path, config())
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(args, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.time() + 240
    while not (tmp_path / "checkpoint.pth").exists() and time.time() < deadline:
        time.sleep(0.01)
        assert process.poll() in (None, 0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for file in tmp_path.glob("*epoch.pth"):
        torch.load(file, weights_only=True)
    train(corpus, tmp_path)
    assert_same_epochs(trained, tmp_path)
    assert not list(tmp_path.glob("*.tmp*"))


def test_killed_between_checkpoint_and_epoch(corpus, trained, tmp_path):
    train(corpus, tmp_path)
    (tmp_path / "latest.pth").unlink()
    (tmp_path / "3epoch.pth").unlink()
    (tmp_path / ".3epoch.77.tmp.pth").write_bytes(b"half")
    train(corpus, tmp_path)
    assert torch.load(tmp_path / "latest.pth", weights_only=True)["updates"] == 9
    assert not list(tmp_path.glob("*.tmp*"))


def test_killed_before_the_best_epochs_were_sorted_out(corpus, tmp_path):
    few = {"keep_nbest_models": 1, "max_epoch": 3}
    train(corpus, tmp_path, **few)
    link = tmp_path / "valid.distill.best.pth"
    files, best = sorted(path.name for path in tmp_path.glob("*.pth")), link.readlink()
    other = next(f"{n}epoch.pth" for n in (1, 2) if f"{n}epoch.pth" != str(best))
    shutil.copy(tmp_path / "3epoch.pth", tmp_path / other)
    link.unlink()
    link.symlink_to(other)
    train(corpus, tmp_path, **few)
    assert link.readlink() == best
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == files


def test_a_training_that_has_stopped_early_is_not_gone_on_with(corpus, tmp_path):
    criterion = ["valid", "distill", "max"]  # it falls: no epoch is better than the first
    early = {"patience": 0, "early_stopping_criterion": criterion, "max_epoch": 5}
    for _ in range(2):
        train(corpus, tmp_path, **early)
        assert len(read_history(tmp_path / "valid.jsonl")) == 2


def test_atomic_save_leaves_nothing_half_written(tmp_path):
    class Unpicklable:
        def __reduce__(self):
            raise OSError("disk full")

    target = tmp_path / "checkpoint.pth"
    with atomic_torch_save():
        torch.save({"a": 1}, target)
        with pytest.raises(OSError, match="disk full"):
            torch.save(Unpicklable(), target)
    assert torch.load(target) == {"a": 1} and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pruning_conf": {"target": 1.2}}, r"target is 1.2, but has to be in \[0, 1\)"),
        ({"pruning_conf": {"goal": 0.5}}, "pruning_conf: unknown key 'goal', choose from target"),
        ({"pruning_conf": {"round_to": 0}}, "round_to is 0, but has to be a whole number above 0"),
        (
            {"pruning_conf": {"target": 0.4, "targets": [0.2, 0.4]}},
            r"pruning_conf.targets has 0.4, but has to be in \(0, 0.4\)",
        ),
        ({"pruning_conf": {"protected": ["heads"]}}, "unknown site 'heads': give a kind"),
        ({"model_conf": {"layer": [1]}}, "model_conf: .*'layer'"),
        ({"pruning_conf": {"target": 0.99}}, "target 0.99 cannot be reached, at most 0.[0-9]+ of"),
        (
            {"pruning_conf": {"init": float("nan")}},
            "pruning_conf.init is nan, but has to be finite",
        ),
        ({"optim_conf": {"lr": -1.0}}, "optim_conf: Invalid learning rate: -1.0"),
        ({"optim_conf": {"lr": float("nan")}}, "optim_conf.lr is nan, but has to be finite"),
        ({"crop_seconds": float("nan")}, "crop_seconds is nan, but has to be positive"),
        ({"crop_seconds": 1e-6}, "crop_seconds: 1e-06 s has fewer than the 1 samples"),
        ({"grad_clip": -1.0}, "grad_clip is -1.0, but has to be above 0"),
        ({"accum_grad": 0}, "accum_grad is 0, but has to be above 0"),
        ({"max_epoch": 0}, "max_epoch is 0, but has to be above 0"),
        ({"teacher": "/nowhere/teacher"}, "/nowhere/teacher: no such directory"),
    ],
)
def test_wrong_yaml(corpus, tmp_path, changes, message):
    args = command(corpus, tmp_path, config(**changes))
    if "teacher" in changes:
        del args[args.index("--teacher") : args.index("--teacher") + 2]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        SSLPruneTask.main(cmd=args)


@pytest.mark.parametrize("samples", [np.array([], np.float32), np.array([0.1, np.nan], np.float32)])
def test_bad_samples_are_named(samples):
    with pytest.raises(ValueError, match="utt7"):
        check_utterance("utt7", {"speech": samples})


def test_random_baseline_and_its_errors(corpus, tmp_path, capsys):
    args = ["--teacher", str(corpus / "teacher"), "--output_dir", str(tmp_path / "random")]
    (tmp_path / "macs.yaml").write_text("pruning_conf: {cost: macs}\n")
    for cost, config in (("parameters", []), ("macs", ["--config", str(tmp_path / "macs.yaml")])):
        main(["encoder", "random", *args, "--", *config, "--pruning_conf", "target=0.5"])
        summary = json.loads((tmp_path / "random" / "summary.json").read_text())
        assert summary["cost"] == cost and summary["exact"] == pytest.approx(0.5, abs=0.02)
    left = summary["macs_per_second"] / summary["dense_macs_per_second"]
    assert left == pytest.approx(0.5, abs=0.02)
    # Options of the training count beside the config; others than those of pruning may be there
    options = ["--pruning_conf", "protected=[ffn_dim]", "--pruning_conf", "round_to=3"]
    main(["encoder", "random", *args, "--", *config, *options, "--max_epoch", "7"])
    summary = json.loads((tmp_path / "random" / "summary.json").read_text())
    assert summary["cost"] == "macs" and summary["target"] == 0.5
    plan = load_encoder(tmp_path / "random").plan()
    for name, site in plan.sites.items():
        if site.kind == "ffn_dim":
            assert plan.size(name) == site.size
        if site.kind in ("qk", "vo"):
            assert all(int(n) % 3 == 0 for n in plan.groups(name).bincount())
    with pytest.raises(SystemExit):
        main(["encoder", "random", *args, "--", "--pruning_conf", "target=1.0"])
    assert "error: pruning_conf.target is 1.0, but has to be in [0, 1)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["encoder", "slim", "--train_dir", str(tmp_path), "--output_dir", str(tmp_path / "x")])
    assert "config.yaml: missing" in capsys.readouterr().err


def test_long_epochs_leave_means():
    rows = [{"update": n, "loss": float(n)} for n in range(7)]
    assert thinned(rows, most=7) == rows
    assert thinned(rows, most=3) == [
        {"update": 0, "loss": 1.0},
        {"update": 3, "loss": 4.0},
        {"update": 6, "loss": 6.0},
    ]
    assert thinned([], most=3) == []


@pytest.mark.parametrize(("native", "expected"), [(True, {"dtype": torch.bfloat16}), (False, {})])
def test_bfloat16_that_is_only_emulated_is_not_taken(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: native or including_emulation,
    )
    assert mixed_precision() == expected


def test_statistics_can_be_gathered_over_processes(tmp_path):
    """`recursive_average` is what ESPnet's trainer does with them under DDP."""
    from espnet2.torch_utils.recursive_op import recursive_average

    directory = saved("whisper", tmp_path)
    encoders = load_encoder(directory), load_encoder(directory)
    model = ESPnetDistillModel(*encoders, PruningConf(target=0.5)).train()
    loss, stats, weight = model(*batch())
    stats, weight = recursive_average(stats, weight, distributed=False)
    assert loss.shape == (1,) and float(weight) == 2 * 60  # frames of the window
    assert model.collect_feats() == {}


def test_through_whispers_decoder(corpus, tmp_path):
    from test.espnet_prune.whispers import make_teacher

    make_teacher(tmp_path)
    (tmp_path / "text").write_text("".join(f"utt{n} word {n}\n" for n in range(5)) + "utt5\n")
    for n in range(6):  # its window has one second
        soundfile.write(tmp_path / f"{n}.wav", np.random.default_rng(n).normal(size=9000), 16000)
    (tmp_path / "wav.scp").write_text("".join(f"utt{n} {tmp_path}/{n}.wav\n" for n in range(6)))
    (tmp_path / "shape").write_text("".join(f"utt{n} 9000\n" for n in range(6)))
    model_conf = {"decoder_loss": 1.0, "full_window": 0.5}
    conf = config(pruning_conf=None, model_conf=model_conf, max_epoch=2)
    cmd = command(tmp_path, tmp_path / "exp", conf)
    cmd[cmd.index("--teacher") + 1] = str(tmp_path)
    for part in ("train", "valid"):
        cmd += [f"--{part}_data_path_and_name_and_type", f"{tmp_path}/text,text,text"]
    SSLPruneTask.main(cmd=cmd)
    rows = read_history(tmp_path / "exp" / "updates.jsonl")
    assert len(rows) == 6 and all("decoder" in row for row in rows)
    assert load_trained(tmp_path / "exp", "latest.pth").decoder_loss == 1.0
