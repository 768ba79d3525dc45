import os
import signal
import subprocess
import sys
import time

import pytest

from espnet_prune.files import lock
from espnet_prune.files.lock import alone, held, take

HOLD = """
import os, sys, time
from espnet_prune.files.lock import alone, held
with {how}({place!r}):
    child = os.fork() if {fork} else 1
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Starts a process that holds `tmp_path`; returns it and the number that it prints."""
    started, children = [], []

    def start(how="held", fork=False):
        code = HOLD.format(how=how, place=str(tmp_path), fork=fork)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        started.append(process)
        child = int(process.stdout.readline())
        if fork:
            children.append(child)
        return process, child

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    for child in children:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_the_second_one_is_told_who_holds_it(tmp_path, holder):
    process, _ = holder()
    with pytest.raises(ValueError, match=rf"{tmp_path} is in use by -c \(process {process.pid} on"):
        with held(tmp_path):
            pass
    process.kill()
    process.wait()
    with held(tmp_path):  # a process that dies gives it back
        pass


def test_what_a_dead_holder_has_started_gets_time_to_end(tmp_path, holder, monkeypatch):
    process, child = holder(fork=True)
    process.kill()
    process.wait()
    monkeypatch.setattr(lock, "_GRACE", 0.3)
    with pytest.raises(ValueError, match="what is left of .* which has ended"):
        with held(tmp_path):
            pass
    monkeypatch.setattr(lock, "_GRACE", 30.0)
    os.kill(child, signal.SIGKILL)
    with held(tmp_path):
        pass


def test_alone_waits(tmp_path, holder):
    process, _ = holder("alone")
    ender = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {process.pid}"])
    begin = time.monotonic()
    with alone(tmp_path):
        assert time.monotonic() - begin > 0.3
    ender.wait()


def test_a_shell_script_holds_a_folder_until_it_ends(tmp_path):
    take = f'exec {{fd}}<> {tmp_path}/.lock; "$0" -m espnet_prune.files.lock'
    script = f'{take} "$fd" {tmp_path} "./run.sh --a b"; echo $?; cat'
    command = ["bash", "-c", script, sys.executable]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, stdin=subprocess.PIPE, **pipes)
    assert first.stdout.readline() == "0\n"
    second = subprocess.run(command, stdin=subprocess.DEVNULL, **pipes)
    assert second.stdout == "1\n"
    (line,) = second.stderr.splitlines()
    place = f"{tmp_path} is in use by ./run.sh --a b (process {first.pid} on "
    assert line.startswith(f"error: {place}")
    waiting = [*command[:2], script.replace("lock ", "lock --wait "), sys.executable]
    third = subprocess.Popen(waiting, stdin=subprocess.DEVNULL, **pipes)
    assert third.stderr.readline().startswith(place)
    first.communicate("")
    assert third.communicate()[0] == "0\n"


def test_without_locks_there_is_a_warning(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    take(0, tmp_path, "a", 1)
    assert f"warning: {tmp_path}: no locks here: No locks" in capsys.readouterr().err
