"""Job runner with Kaldi's interface, which ESPnet's espnet2.bin.launch can use as its ``--cmd``.

usage: run.pl|slurm.pl [options] [JOB=FIRST:LAST] LOG COMMAND [ARGUMENT ...]

Runs COMMAND with its output in LOG. With JOB=FIRST:LAST it runs once per number, and JOB in LOG
and in the arguments stands for that number. The arguments |, ||, &&, ;, <, >, >>, 2>, 2>> and
2>&1 keep their meaning in bash; every other one reaches the command as it is. Exits with 0 if
all jobs did; else shows the end of the failed logs and exits with 1.

options (an underscore and a dash mean the same):
  --backend local|slurm  where to run (run.pl: local, slurm.pl: slurm)
  --max_jobs_run N       at most N jobs at once (local: default processors / num_threads)
  --num_threads N        processors of one job (slurm: --cpus-per-task)
  --mem SIZE             memory per processor, as 4G (slurm: --mem-per-cpu)
  --gpu N                GPUs of one job (slurm: --gres=gpu:N)
  --num_nodes N          nodes of one job (slurm: --nodes, one task on each)
  --time TIME            time limit (slurm: --time)
  --config FILE          taken for Kaldi's sake and ignored
The local backend uses --max_jobs_run and --num_threads. Partition, account and the like go to
slurm through sbatch's own variables, as SBATCH_PARTITION=gpu.
"""

# Standard library only, so that it starts at once and with any python3.

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from espnet_prune.launch.supervise import SIGNALS, handled, heeded

_OPTIONS = ("backend", "max_jobs_run", "num_threads", "mem", "gpu", "num_nodes", "time", "config")
_COUNTS = ("max_jobs_run", "num_threads", "gpu", "num_nodes")
_SLURM = {
    "mem": "--mem-per-cpu",
    "num_threads": "--cpus-per-task",
    "time": "--time",
    "num_nodes": "--nodes",
}
_OPERATORS = {"|", "||", "&&", ";", "<", ">", ">>", "2>", "2>>", "2>&1"}
_SUCCESS = "# Ended (code 0)"
_TAIL_LINES = 20
_GRACE = 10.0  # seconds that a job has to end by itself


@dataclass(frozen=True)
class Request:
    """One call of the runner: ``numbers`` is empty where no JOB=FIRST:LAST was given."""

    log: str
    command: tuple[str, ...]
    variable: str = "JOB"
    numbers: tuple[int, ...] = ()
    options: dict[str, str] = field(default_factory=dict)

    def count(self, option: str, default: int) -> int:
        return int(self.options.get(option, default))

    def jobs(self) -> list[tuple[Path, list[str]]]:
        """(log, command) of each job, with the JOB variable replaced."""
        found = []
        for number in map(str, self.numbers or [self.variable]):
            log, *command = (w.replace(self.variable, number) for w in (self.log, *self.command))
            found.append((Path(log), command))
        return found


def parse(argv: list[str], default_backend: str = "local") -> Request:
    """Read the arguments of run.pl or slurm.pl.

    Raises:
        ValueError: log or command is missing, an option's value is not usable, or several jobs
            would write one log.
    """
    options = {"backend": default_backend}
    words = deque(argv)
    while words and words[0].startswith("-") and len(words[0]) > 1:
        name, equals, value = words.popleft().lstrip("-").partition("=")
        name = name.replace("-", "_")
        if not equals:
            if not words:
                raise ValueError(f"option --{name} has no value")
            value = words.popleft()
        if name not in _OPTIONS:
            print(f"warning: option --{name} {value} is not known here, ignored", file=sys.stderr)
            continue
        if name in _COUNTS and not value.isdecimal():
            raise ValueError(f"--{name} {value}: a whole number is wanted")
        options[name] = value
    for name in ("max_jobs_run", "num_threads", "num_nodes"):
        if options.get(name, "1").strip("0") == "":
            raise ValueError(f"--{name} {options[name]}: 1 or more is wanted")
    if options["backend"] not in ("local", "slurm"):
        raise ValueError(f"--backend {options['backend']}: local or slurm is wanted")
    variable, numbers = "JOB", ()
    match = re.fullmatch(r"([A-Za-z_]\w*)=(\d+)(?::(\d+))?", words[0]) if words else None
    if match:
        words.popleft()
        variable, first, last = match[1], int(match[2]), int(match[3] or match[2])
        if last < first:
            raise ValueError(f"{match[0]}: the last number is below the first")
        numbers = tuple(range(first, last + 1))
    if len(words) < 2:
        raise ValueError("a log file and a command are wanted; see --help")
    log, *command = words
    if len(numbers) > 1 and variable not in log:
        raise ValueError(f"{log}: the name of the log needs {variable}, or all jobs would share it")
    return Request(log, tuple(command), variable, numbers, options)


def run(request: Request) -> list[Path]:
    """Run all jobs of a request, wait, and return the logs of those that failed."""
    return _run_slurm(request) if request.options["backend"] == "slurm" else _run_local(request)


class _Running(NamedTuple):
    log: Path
    start: float
    process: subprocess.Popen


def _start(log: Path, command: list[str], tell: Callable[[int], None]) -> _Running:
    line = " ".join(word if word in _OPERATORS else shlex.quote(word) for word in command)
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        log.write_text(f"# {line}\n# Started at {time.strftime('%c')}\n#\n", encoding="utf-8")
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(log)) from error
    with open(log, "a", encoding="utf-8") as stream:
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that a job is stopped together with what it started
            preexec_fn=lambda: tell(os.getpid()),  # this process may be killed before it knows
        )
    return _Running(log, time.monotonic(), process)


def _finish(job: _Running) -> bool:
    """Write the last lines of the log; whether the job succeeded. That is its own exit status, also
    where the log has vanished or the disk is full."""
    seconds = f"{time.monotonic() - job.start:.0f}"
    code = job.process.returncode
    code = 128 - code if code < 0 else code  # bash's way to tell of a signal
    try:
        with open(job.log, "a", encoding="utf-8") as stream:
            stream.write(f"# Accounting: time={seconds} threads=1\n# Ended (code {code}) at ")
            stream.write(f"{time.strftime('%c')}, elapsed time {seconds} seconds\n")
    except OSError as error:
        print(f"warning: {job.log}: {error.strerror}; its job ended with {code}", file=sys.stderr)
    return code == 0


def _run_local(request: Request) -> list[Path]:
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    default = max(1, processors // request.count("num_threads", 1))
    limit = request.count("max_jobs_run", default)
    waiting = deque(request.jobs())
    running: list[_Running] = []
    failed = []
    caller = os.getppid()
    with _signals() as asked, _guard() as tell:
        try:
            while (waiting or running) and not asked:
                while waiting and len(running) < limit:
                    running.append(_start(*waiting.popleft(), tell))
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    tell(-job.process.pid)
                    if not _finish(job):
                        failed.append(job.log)
                if os.getppid() != caller:  # it was killed, and nobody waits for the jobs any more
                    asked.append(signal.SIGTERM)
                time.sleep(0.02)
        finally:
            _end(running, asked)  # only after an interruption are there any
            for job in running:
                tell(-job.process.pid)
        if asked:
            raise SystemExit(128 + asked[0])
    order = [log for log, _ in request.jobs()]
    return sorted(failed, key=order.index)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that ask this process to end, in a list instead of at any moment."""
    asked: list[int] = []
    with handled(lambda number, _: asked.append(number)):
        yield asked


def _end(running: list[_Running], asked: list[int]) -> None:
    """End jobs with all that they started: SIGTERM, and SIGKILL for those that do not end by it
    within `_GRACE` seconds, or at once when another signal is asked."""
    deadline = time.monotonic() + _GRACE
    known = len(asked)
    for job in running:
        _signal(job, signal.SIGTERM)
    while any(job.process.poll() is None for job in running):
        if len(asked) > known or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    for job in running:
        _signal(job, signal.SIGKILL)  # also for what a job that has ended leaves behind
        job.process.wait()
        _finish(job)


def _signal(job: _Running, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(job.process.pid, number)


@contextmanager
def _guard() -> Iterator[Callable[[int], None]]:
    """A process that kills the jobs when this one is gone without having ended them (kill -9).

    Yields what tells it of a job: the number of its process, negative once it has ended.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writer)
            _kill_when_alone(reader)
        finally:
            os._exit(0)
    os.close(reader)
    try:
        yield lambda process: _tell(writer, process)
    finally:
        os.close(writer)
        os.waitpid(pid, 0)


def _tell(writer: int, process: int) -> None:
    with suppress(OSError):  # the guard was killed, too
        os.write(writer, f"{process}\n".encode())


def _kill_when_alone(reader: int) -> None:
    os.setsid()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    jobs = set()
    with open(reader, encoding="utf-8") as lines:
        for process in map(int, lines):
            if process > 0:
                jobs.add(process)
            else:
                jobs.discard(-process)
    for process in jobs:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process, signal.SIGKILL)


def _run_slurm(request: Request) -> list[Path]:
    if shutil.which("sbatch") is None:
        raise FileNotFoundError("sbatch is not on PATH; use run.pl to run on this machine")
    logs = [log for log, _ in request.jobs()]
    name = Path(request.log).name
    queue = Path(request.log.replace(request.variable, "all")).parent / "q"
    queue.mkdir(parents=True, exist_ok=True)
    for log in logs:
        log.unlink(missing_ok=True)  # an old log could tell of an old success
    script = queue / f"{name}.sh"
    script.write_text(_slurm_script(request), encoding="utf-8")
    options = ["--parsable", "--wait", f"--job-name={name}"]
    options.append(f"--output={queue}/{name}.{'%A_%a' if request.numbers else '%j'}.out")
    options += [f"{_SLURM[o]}={request.options[o]}" for o in _SLURM if o in request.options]
    if "num_nodes" in request.options:
        options.append("--ntasks-per-node=1")
    if request.count("gpu", 0) > 0:
        options.append(f"--gres=gpu:{request.count('gpu', 0)}")
    if request.numbers:
        limit = f"%{request.options['max_jobs_run']}" if "max_jobs_run" in request.options else ""
        options.append(f"--array={request.numbers[0]}-{request.numbers[-1]}{limit}")
    sbatch = subprocess.Popen(["sbatch", *options, str(script)], stdout=subprocess.PIPE, text=True)
    job_id = ""
    try:
        job_id = sbatch.stdout.readline().strip().partition(";")[0]
        code = sbatch.wait()
    except BaseException:
        for number in SIGNALS:  # a second one must not keep the queue from being told
            signal.signal(number, signal.SIG_IGN)
        if job_id:
            subprocess.run(["scancel", job_id], check=False)
        sbatch.terminate()
        raise
    if code == 0:
        return []
    # sbatch gives one status for the whole array; the logs tell which jobs it was.
    done = {log for log in logs for line in _end_of(log)[-1:] if line.startswith(_SUCCESS)}
    return [log for log in logs if log not in done] or logs


def _slurm_script(request: Request) -> str:
    """A batch script that hands one job of the array to the local backend on its node."""
    line = shlex.join([sys.executable, "-m", "espnet_prune.launch.jobs", "--backend", "local"])
    if request.numbers:
        line += f' {request.variable}="$SLURM_ARRAY_TASK_ID"'
    line += " " + shlex.join([request.log, *request.command])
    root = Path(__file__).resolve().parents[2]
    return (
        "#!/usr/bin/env bash\n"
        f"cd {shlex.quote(os.getcwd())} || exit 1\n"
        f"export PYTHONPATH={shlex.quote(str(root))}${{PYTHONPATH:+:$PYTHONPATH}}\n"
        f"exec {line}\n"
    )


def _end_of(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    except FileNotFoundError:
        return ["(no log was written: the job did not start)"]
    except OSError as error:
        return [f"(the log cannot be read: {error.strerror})"]


def _report(failed: list[Path], total: int) -> None:
    print(f"error: {len(failed)} of {total} jobs failed, see {failed[0]}", file=sys.stderr)
    for log in failed[:3]:
        print(f"---- the end of {log}", *_end_of(log), sep="\n", file=sys.stderr)
    if len(failed) > 3:
        print("---- also failed:", *failed[3:], file=sys.stderr)


def _stop(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def main(argv: list[str] | None = None) -> int:
    """Run the jobs that ``argv`` asks for; the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__.partition("\n\n")[2], end="")
        return 0 if argv else 1
    for number in heeded():
        signal.signal(number, _stop)
    try:
        request = parse(argv)
        failed = run(request)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if failed:
        _report(failed, max(1, len(request.numbers)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
