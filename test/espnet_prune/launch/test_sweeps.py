"""Sweeps over recipes, here scripts that note how they were called."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_prune.cli import main
from espnet_prune.launch.sweeps import Runner

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """#!/bin/sh
printf '%s\\n' "$*" >> {log}
while [ $# -gt 1 ]; do
    case "$1" in
        --prune_tag) mkdir -p exp/ssl_prune_$2/pruned
                     for set in test_en test_joe; do
                         mkdir -p exp/ssl_prune_$2/whisper/$set
                         touch exp/ssl_prune_$2/whisper/$set/scores.json
                     done ;;
        --results_dir) mkdir -p $2/{task}; touch $2/{task}/run.json ;;
        --learning_rates) mkdir -p ../out/dense/superb_{task}_sweep_x ;;
        --output) case $2 in *learning_rates*) echo '{{"chosen": 0.001}}' > $2 ;; esac ;;
    esac
    shift
done
"""


def script(path, log, task=""):
    path.write_text(SCRIPT.format(log=log, task=task))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A recipe's directory; the command that starts Python is a script, too."""
    monkeypatch.chdir(tmp_path)
    script(tmp_path / "run.sh", tmp_path / "calls")
    return tmp_path, ["--python", script(tmp_path / "python", tmp_path / "calls")]


def calls(folder):
    lines = (folder / "calls").read_text().splitlines()
    (folder / "calls").unlink()
    return lines


def test_pruning_at_several_sizes(place):
    folder, python = place
    (folder / "exp/ssl_prune_prune_one_shot_0.5/whisper/test_en").mkdir(parents=True)
    command = ["encoder", "sweep", *python, "--targets", "0.5", "0.7", "--seeds", "0", "1"]
    command += ["--methods", "scratch", "ours", "l0", "noste", "--nj", "2", "--updates", "100"]
    main(command)
    runs = calls(folder)
    assert (folder / "exp/ssl_prune_ours_0.5").readlink().name == "ssl_prune_prune_one_shot_0.5"
    tags = [line.split("--prune_tag ")[1].split()[0] for line in runs if "--prune_tag" in line]
    assert len(tags) == 4 * 3 and all(tag.startswith("scratch") for tag in tags[9:])
    (one,) = (line for line in runs if "--prune_tag scratch_0.5_seed1 " in line)
    assert "--like exp/ssl_prune_ours_0.5_seed1/pruned" in one
    assert "--distill_args --num_iters_per_epoch 50 --scheduler_conf max_steps=100" in one
    assert "--debug false" in one and "--target 0.5 --seed 1 --method scratch" in one
    for method, alone in (("ours", True), ("l0", False)):
        (one,) = (line for line in runs if f"--prune_tag {method}_0.7 " in line)
        assert ("--distill_args" in one) == alone
    *plots, table = runs[12:]
    for target, plot in zip(("0.5", "0.7"), plots, strict=True):
        assert f"encoder compare --output exp/ste_{target}.png --run with STE" in plot
    assert table.startswith("-m espnet_prune encoder table --output exp/TABLE.md exp/ssl_prune_")
    experiments = "ssl_prune_ours_0.7 exp/ssl_prune_l0_0.7 exp/ssl_prune_noste_0.7"
    scores = " ".join(f"--score whisper/{name}/scores.json" for name in ("test_en", "test_joe"))
    assert table.endswith(f"{experiments} {scores}")
    main(command)  # nothing is run twice
    assert len(calls(folder)) == 3

    def rerun(*more):
        main([*command, *more])
        return sum("--prune_tag" in line for line in calls(folder))

    (folder / "exp/ssl_prune_ours_0.7/.made").unlink()  # killed before the end
    assert rerun() == 1
    (folder / "conf").mkdir()
    (folder / "conf/a.yaml").write_text("a: 1")
    assert rerun() == 12 and rerun() == 0
    assert rerun("--", "--nj", "3") == 12
    (folder / "dump/raw/train").mkdir(parents=True)
    (folder / "audio.wav").write_text("audio")
    (folder / "dump/raw/train/wav.scp").write_text(f"a {folder}/audio.wav\n")
    assert rerun() == 12
    (folder / "audio.wav").write_text("other audio")
    assert rerun() == 12 and rerun() == 0


def test_errors_of_pruning(place, capsys):
    folder, python = place
    for method, message in (("magic", "unknown method 'magic'"), ("ours", "ours_0.3 failed, see")):
        (folder / "run.sh").write_text("#!/bin/sh\necho the reason\nexit 1\n")
        with pytest.raises(SystemExit):
            main(["encoder", "sweep", *python, "--targets", "0.3", "--methods", method])
        assert message in capsys.readouterr().err
    assert "the reason" in (folder / "exp/table_ours_0.3.log").read_text()


def test_probes(place):
    folder, python = place
    for task in ("KS", "ASR"):
        (folder / task).mkdir()
        script(folder / task / "run.sh", folder / "calls", task)
    (folder / "model").mkdir()
    command = ["superb", "sweep", *python, "--encoders", "dense=model", "other=hub/name"]
    command += ["--tasks", "KS=KS", "ASR=ASR", "--seeds", "0", "1", "--seeded", "KS", "--fixed"]
    command += ["ASR", "--learning_rates", "1e-2", "1e-3", "--expdir", "out", "--command", "x y"]
    more = ["--", "--datadir", "/d/TASK"]
    main([*command, *more])
    runs = [shlex.split(line) for line in calls(folder)]
    assert sum("--stop_stage 2" in " ".join(run) for run in runs) == 2  # data of each task
    assert sum("--probe_tag sweep" in " ".join(run) for run in runs) == 1
    tags = [" ".join(run) for run in runs if "--feature_cache" in run and "--probe_args" in run]
    assert len(tags) == 2 * (2 + 1)
    assert (
        sum(
            "--probe_tag seed1_lr0.001 --probe_args --optim_conf lr=1.000000e-03" in t for t in tags
        )
        == 2
    )
    assert sum("--probe_tag seed0 --probe_args" in t for t in tags) == 2  # the config's rate
    assert any(f"--upstream {folder}/model --seed 0" in t for t in tags)
    assert any("--upstream hub/name" in t for t in tags)
    assert all(t.endswith(("--datadir /d/KS", "--datadir /d/ASR")) for t in tags)
    table = " ".join(runs[-1])
    assert "superb table --encoder dense" in table and "--tasks KS ASR" in table
    assert "Chosen on validation data of dense among 1e-2 1e-3: KS 0.001." in table
    assert json.loads((folder / "out/learning_rates/KS.json").read_text())["chosen"] == 0.001
    assert not list((folder / "out/dense").glob("superb_*"))

    main([*command, *more])
    assert len(calls(folder)) == 2 + 1  # data, and the table
    main(command)  # data of another place
    assert len(calls(folder)) > 2 + 6
    (folder / "KS/dump/raw/test").mkdir(parents=True)
    (folder / "KS/dump/raw/test/text").write_text("a one")
    main(command)  # other data of a task: its rate and its probes
    assert sum("KS" in line or "seed" in line for line in calls(folder)) > 5
    main(command)
    assert len(calls(folder)) == 2 + 1
    command[-1] = "other"
    (folder / "model/config.json").write_text("{}")
    with pytest.raises(SystemExit):  # another encoder of this name
        main(command)


def test_what_ends_a_sweep_ends_its_recipes(tmp_path):
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/bash\nsleep 60 &\necho $$ $! > pids.tmp\nmv pids.tmp pids\nwait\n")
    script.chmod(0o755)
    command = [sys.executable, "-m", "espnet_prune", "encoder", "sweep", "--targets", "0.5"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    sweep = subprocess.Popen(
        [*command, "--methods", "ours"],
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
        **pipe,
    )
    end = time.monotonic() + 60
    while not (tmp_path / "pids").exists():
        assert time.monotonic() < end and sweep.poll() is None
        time.sleep(0.05)
    sweep.terminate()
    sweep.communicate(timeout=20)
    assert sweep.returncode == 128 + signal.SIGTERM
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        stat = f"/proc/{pid}/stat"
        assert not os.path.exists(stat) or open(stat).read().rpartition(")")[2].split()[0] == "Z"


def test_jobs_stop_after_a_failure(tmp_path):
    done = []

    def fail():
        raise ValueError("first")

    jobs = [fail, *(lambda: (time.sleep(0.2), done.append(1)) for _ in range(20))]
    with pytest.raises(ValueError, match="first"):
        Runner(nj=2).together(jobs)
    assert len(done) < 5
