import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_prune.launch import jobs

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = ROOT / "egs2" / "TEMPLATE" / "common"

# Runs a batch script as slurm would: once per number of --array, at once, with its status.
FAKE_SBATCH = f"""#!{sys.executable}
import os, re, subprocess, sys
open(os.environ["SBATCH_CALLS"], "a").write(" ".join(sys.argv[1:]) + "\\n")
if os.environ.get("SBATCH_REFUSES"):
    sys.exit("sbatch: error: invalid partition")
print("77;cluster", flush=True)
array = re.search(r"--array=(\\d+)-(\\d+)", " ".join(sys.argv))
first, last = map(int, array.groups()) if array else (0, 0)
codes = []
for number in range(first, last + 1):
    env = dict(os.environ, SLURM_ARRAY_TASK_ID=str(number)) if array else None
    codes.append(subprocess.run(["bash", sys.argv[-1]], env=env).returncode)
sys.exit(max(codes))
"""

# Under nohup a hang-up ends nothing, as it should
ENDING = ["SIGTERM", "SIGINT", "SIGQUIT"]
if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
    ENDING.append("SIGHUP")


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """Put a stand-in for sbatch on PATH; returns the file with its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(FAKE_SBATCH)
    (folder / "sbatch").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SBATCH_CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


@pytest.mark.parametrize("backend", ["local", "slurm"])
def test_each_job_has_its_number_and_log(backend, tmp_path, sbatch):
    log = str(tmp_path / "logs" / "a.JOB.log")
    command = ["--backend", backend, "JOB=2:4", log, "echo", "number JOB", "a'b $HOME *", ""]
    assert jobs.main(command) == 0
    for number in (2, 3, 4):
        lines = Path(log.replace("JOB", str(number))).read_text().splitlines()
        assert lines[0] == f"# echo 'number {number}' 'a'\"'\"'b $HOME *' ''"
        assert lines[1].startswith("# Started at ")
        assert lines[3] == f"number {number} a'b $HOME * "
        assert lines[-1].startswith("# Ended (code 0) at ")


@pytest.mark.parametrize("backend", ["local", "slurm"])
def test_failed_jobs_are_named_with_the_end_of_their_logs(backend, tmp_path, sbatch, capsys):
    log = str(tmp_path / "a.JOB.log")
    script = "echo line JOB; exit $((JOB % 2 * 3))"
    assert jobs.main(["--backend", backend, "JOB=1:4", log, "bash", "-c", script]) == 1
    shown = capsys.readouterr().err
    assert f"error: 2 of 4 jobs failed, see {tmp_path}/a.1.log" in shown
    assert "\nline 3\n" in shown and "# Ended (code 3)" in shown
    assert "\nline 2\n" not in shown
    assert "# Ended (code 0)" in (tmp_path / "a.4.log").read_text()


def test_single_job_without_number(tmp_path, sbatch):
    for backend in ("local", "slurm"):
        log = tmp_path / f"{backend}.log"
        assert jobs.main(["--backend", backend, str(log), "echo", "JOB stays"]) == 0
        assert "\nJOB stays\n" in log.read_text()


def test_shell_operators_work_and_a_pipe_fails_with_its_first_command(tmp_path):
    log, out = tmp_path / "a.log", tmp_path / "out"
    assert jobs.main([str(log), "echo", "x; y", "|", "tr", "x", "z", ">", str(out)]) == 0
    assert out.read_text() == "z; y\n"
    assert jobs.main([str(log), "false", "|", "cat"]) == 1


def test_signal_and_missing_command_are_in_the_log(tmp_path):
    log = tmp_path / "a.log"
    assert jobs.main([str(log), "bash", "-c", "kill -9 $$"]) == 1
    assert "# Ended (code 137)" in log.read_text()
    assert jobs.main([str(log), "no_such_command_here"]) == 1
    assert "# Ended (code 127)" in log.read_text()


@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_jobs_at_once_than_asked_for(tmp_path, limit):
    # The shell counts by itself: `ls` would complain of what another job removes under it.
    script = (
        f"mkdir {tmp_path}/run.JOB; set -- {tmp_path}/run.*; echo $#; sleep 0.3; "
        f"rmdir {tmp_path}/run.JOB"
    )
    log = str(tmp_path / "a.JOB.log")
    assert jobs.main(["--max-jobs-run", str(limit), "JOB=1:5", log, "bash", "-c", script]) == 0
    counts = [int((tmp_path / f"a.{i}.log").read_text().splitlines()[3]) for i in range(1, 6)]
    assert max(counts) == limit


def test_slurm_options_and_queue_folder(tmp_path, sbatch):
    options = "--mem 4G --num_threads 3 --gpu 1 --num-nodes 2 --time 1:00:00 --max_jobs_run 5"
    command = [*options.split(), "--config", "conf/x", "JOB=1:2", f"{tmp_path}/a.JOB.log", "true"]
    assert jobs.main(["--backend", "slurm", *command]) == 0
    words = sbatch.read_text().split()
    for word in (
        "--parsable --wait --job-name=a.JOB.log --mem-per-cpu=4G --cpus-per-task=3 --gres=gpu:1 "
        "--nodes=2 --ntasks-per-node=1 --time=1:00:00 --array=1-2%5"
    ).split():
        assert word in words
    assert words[-1] == f"{tmp_path}/q/a.JOB.log.sh"


def test_slurm_asks_for_no_gpu_when_none_is_needed(tmp_path, sbatch):
    assert jobs.main(["--backend", "slurm", "--gpu", "0", f"{tmp_path}/a.log", "true"]) == 0
    assert "--gres" not in sbatch.read_text() and "--array" not in sbatch.read_text()


def test_slurm_that_refuses_a_job_is_a_failure_despite_an_old_log(
    tmp_path, sbatch, monkeypatch, capsys
):
    log = tmp_path / "a.log"
    assert jobs.main(["--backend", "slurm", str(log), "true"]) == 0
    monkeypatch.setenv("SBATCH_REFUSES", "1")
    assert jobs.main(["--backend", "slurm", str(log), "true"]) == 1
    assert "the job did not start" in capsys.readouterr().err


def test_slurm_without_sbatch_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jobs.main(["--backend", "slurm", f"{tmp_path}/a.log", "true"]) == 1
    assert "error: sbatch is not on PATH; use run.pl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a.log"], "a log file and a command are wanted"),
        (["JOB=1:2"], "a log file and a command are wanted"),
        (["JOB=1:2", "a.log", "true"], "a.log: the name of the log needs JOB"),
        (["JOB=3:2", "a.JOB.log", "true"], "JOB=3:2: the last number is below the first"),
        (["--gpu", "one", "a.log", "true"], "--gpu one: a whole number is wanted"),
        (["--max_jobs_run", "0", "a.log", "true"], "--max_jobs_run 0: 1 or more is wanted"),
        (["--backend", "moon", "a.log", "true"], "--backend moon: local or slurm"),
        (["--mem"], "option --mem has no value"),
    ],
)
def test_bad_arguments_have_their_message(argv, message, capsys):
    assert jobs.main(argv) == 1
    assert message in capsys.readouterr().err


def test_unknown_options_are_ignored_with_a_warning(tmp_path, capsys):
    assert jobs.main(["--gizmo", "7", f"{tmp_path}/a.log", "true"]) == 0
    assert "warning: option --gizmo 7 is not known here" in capsys.readouterr().err


def test_stopping_the_runner_stops_its_jobs(tmp_path):
    log = tmp_path / "a.log"
    command = [sys.executable, "-m", "espnet_prune.launch.jobs", str(log)]
    runner = subprocess.Popen([*command, "bash", "-c", "sleep 60 & echo $! ; wait"], cwd=ROOT)
    while not (log.exists() and log.read_text().count("\n") >= 4):
        time.sleep(0.02)
    sleeper = int(log.read_text().splitlines()[3])
    runner.send_signal(signal.SIGTERM)
    assert runner.wait(10) == 128 + signal.SIGTERM
    assert "# Ended (code 143)" in log.read_text()
    for _ in range(400):
        if not _alive(sleeper):
            break
        time.sleep(0.05)
    assert not _alive(sleeper)


@pytest.fixture
def start(tmp_path):
    """Starts run.pl with a shell script as its job, which prints the number of its process; returns
    the runner and that number."""
    started = []

    def begin(script, *before, jobs="JOB=1:1", **options):
        command = [*before, sys.executable, "-m", "espnet_prune.launch.jobs", "--max_jobs_run", "3"]
        command += [jobs, str(tmp_path / "log" / "a.JOB.log"), "bash", "-c", f"echo $$; {script}"]
        runner = subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **options)
        started.append(runner)
        log = tmp_path / "log" / "a.1.log"
        wait_for(lambda: log.exists() and log.read_text().count("\n") >= 4)
        return runner, int(log.read_text().splitlines()[3])

    yield begin
    for runner in started:
        if runner.poll() is None:
            os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("name", ENDING)
def test_each_signal_that_ends_the_runner_ends_its_jobs(start, name):
    runner, job = start("sleep 60")
    runner.send_signal(getattr(signal, name))
    assert runner.wait(10) == 128 + getattr(signal, name)
    assert not _alive(job)


def test_a_hang_up_that_is_ignored_stays_so(start):
    runner, job = start("sleep 60", "nohup", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    runner.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert runner.poll() is None and _alive(job)


def test_a_job_that_ignores_sigterm_is_killed(start, tmp_path):
    runner, job = start("trap '' TERM; while true; do sleep 0.1; done")
    begin = time.monotonic()
    runner.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert _alive(job) and runner.poll() is None
    runner.send_signal(signal.SIGINT)  # a second one, for who does not want to wait
    assert runner.wait(5) == 128 + signal.SIGTERM and time.monotonic() - begin < 5
    assert not _alive(job)
    assert "# Ended (code 137)" in (tmp_path / "log" / "a.1.log").read_text()


def test_the_grace_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_GRACE", 0.3)
    log = tmp_path / "a.log"
    killer = subprocess.Popen(["sh", "-c", f"sleep 1; kill {os.getpid()}"])
    with pytest.raises(SystemExit) as end:
        jobs.main([str(log), "bash", "-c", "trap '' TERM; while true; do sleep 0.1; done"])
    killer.wait()
    assert end.value.code == 128 + signal.SIGTERM and "# Ended (code 137)" in log.read_text()


def test_the_jobs_of_a_runner_that_is_killed_end(start):
    runner, job = start("sleep 60 & wait")
    os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()
    wait_for(lambda: not _alive(job))


def test_the_jobs_of_a_script_that_is_killed_end(start):
    """run.sh is killed, and nothing is left of what it started."""
    script = ["bash", "-c", '"$@"; echo the next stage', "run.sh"]
    runner, job = start("sleep 60", *script, stdout=subprocess.PIPE)
    runner.send_signal(signal.SIGTERM)
    runner.wait()
    wait_for(lambda: not _alive(job))
    assert "next" not in runner.communicate()[0]


def test_logs_that_vanish_do_not_end_the_runner(start, tmp_path, capfd):
    runner, job = start("sleep 2; exit $((JOB / 3))", jobs="JOB=1:3")
    wait_for((tmp_path / "log" / "a.3.log").exists)
    shutil.rmtree(tmp_path / "log")
    assert runner.wait(20) == 1
    shown = capfd.readouterr().err
    assert "a.2.log: No such file or directory; its job ended with 0" in shown
    assert f"error: 1 of 3 jobs failed, see {tmp_path}/log/a.3.log" in shown
    assert not _alive(job)


def test_a_log_that_cannot_be_made_ends_the_jobs_that_run(tmp_path, capsys):
    (tmp_path / "2").touch()
    log = str(tmp_path / "JOB" / "a.log")
    begin = time.monotonic()
    command = ["--max_jobs_run", "2", "JOB=1:2", log, "sleep", "60"]
    assert jobs.main(command) == 1 and time.monotonic() - begin < 20
    assert f"{tmp_path}/2" in capsys.readouterr().err
    assert "# Ended (code 143)" in (tmp_path / "1" / "a.log").read_text()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_log_on_a_full_disk(tmp_path, capsys):
    (tmp_path / "a.log").symlink_to("/dev/full")
    assert jobs.main([str(tmp_path / "a.log"), "true"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: [Errno 28] No space left on device: '{tmp_path}/a.log'"


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_slurm_is_told_when_the_runner_is_ended_twice(tmp_path, sbatch):
    folder = tmp_path / "bin"
    scripts = {"sbatch": "echo 77; sleep 60", "scancel": f"sleep 1; echo $1 > {tmp_path}/cancelled"}
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(stat.S_IRWXU)
    command = [sys.executable, "-m", "espnet_prune.launch.jobs", "--backend", "slurm"]
    log = tmp_path / "a.log"
    runner = subprocess.Popen([*command, str(log), "true"], cwd=ROOT, start_new_session=True)
    wait_for((tmp_path / "q" / "a.log.sh").exists)
    time.sleep(0.5)
    runner.terminate()
    time.sleep(0.3)
    runner.send_signal(signal.SIGINT)
    assert runner.wait(20) == 128 + signal.SIGTERM
    assert (tmp_path / "cancelled").read_text() == "77\n"
    os.killpg(runner.pid, signal.SIGKILL)  # what the stand-in leaves


def launch_stand_in(folder):
    """A module that only prints its arguments, for espnet2.bin.launch to start."""
    (folder / "show.py").write_text("import sys\nprint('ARGS', *sys.argv[1:])\n")
    return [sys.executable, str(folder / "show.py"), "--config", "a b.yaml"]


def test_run_pl_is_a_cmd_for_espnet_launch(tmp_path):
    launch = pytest.importorskip("espnet2.bin.launch")
    log = tmp_path / "train.log"
    command = ["--cmd", str(TEMPLATE / "run.pl"), "--log", str(log), "--ngpu", "0"]
    launch.main([*command, "--", *launch_stand_in(tmp_path)])
    assert "ARGS --config a b.yaml --ngpu 0 --multiprocessing_distributed True" in log.read_text()
    with pytest.raises(RuntimeError, match="last 1000 lines"):
        launch.main([*command, "--", "false"])


def test_slurm_pl_is_a_cmd_for_espnet_launch_on_two_nodes(tmp_path, sbatch, monkeypatch):
    launch = pytest.importorskip("espnet2.bin.launch")
    srun = tmp_path / "bin" / "srun"
    srun.write_text('#!/bin/bash\nshift\nexec "$@"\n')  # drops --export=ALL
    srun.chmod(stat.S_IRWXU)
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "train.log"
    command = ["--cmd", str(TEMPLATE / "slurm.pl"), "--log", str(log), "--ngpu", "1"]
    launch.main([*command, "--num_nodes", "2", "--", *launch_stand_in(tmp_path)])
    assert "--dist_launcher slurm" in log.read_text()
    assert "--nodes=2 --ntasks-per-node=1 --gres=gpu:1" in sbatch.read_text()
