import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from espnet_prune.files.lock import held

HOLD = """
import sys, time
from espnet_prune.files.lock import held
with held(sys.argv[1], "the model"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "a" / ".lock")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_says_who_holds_it_and_a_dead_process_gives_it_back(tmp_path, holder):
    file = tmp_path / "a" / ".lock"
    text = rf"the model is in use by process {holder.pid} on \S+: .*-c.* \(see {file}\)"
    with pytest.raises(ValueError, match=text), held(file, "the model"):
        pass
    assert file.is_file()  # still the other one's
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with held(file, "the model"):
        assert f"process {os.getpid()}" in file.read_text()
        with pytest.raises(ValueError, match="is in use"), held(file, "the model"):
            pass
    assert not file.exists()


def test_a_child_does_not_hold_it_on(tmp_path):
    file = tmp_path / ".lock"
    with held(file, "x"):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
    try:
        with held(file, "x"):
            pass
    finally:
        child.kill()
        child.join()


def test_file_systems_without_locks(tmp_path, monkeypatch, caplog):
    """Some of clusters have none; a training has to run there all the same."""

    def refuse(*args):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with held(tmp_path / ".lock", "x"):
        assert "no locks on this file system" in caplog.text
    assert not list(tmp_path.iterdir())
