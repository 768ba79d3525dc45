import os
import signal
import subprocess
import sys

import pytest

from espnet_prune.launch import hold


def test_a_shell_script_holds_a_folder_until_it_ends(tmp_path):
    take = f'exec {{fd}}<> {tmp_path}/.lock; "$0" -m espnet_prune.launch.hold'
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
    waiting = [*command[:2], script.replace(".hold ", ".hold --wait "), sys.executable]
    third = subprocess.Popen(waiting, stdin=subprocess.DEVNULL, **pipes)
    assert third.stderr.readline().startswith(place)
    first.communicate("")
    assert third.communicate()[0] == "0\n"


def test_without_locks_there_is_a_warning(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(hold.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(hold.fcntl, "flock", refuse)
    hold.take(0, tmp_path, "a", 1)
    assert f"warning: {tmp_path}: no locks here: No locks" in capsys.readouterr().err


def test_what_a_dead_holder_has_started_gets_time_to_end(tmp_path, monkeypatch, capsys):
    """A script that is killed leaves a command for a while."""
    script = f'exec {{fd}}<> {tmp_path}/.lock; "$0" -m espnet_prune.launch.hold "$fd" {tmp_path} a'
    command = ["bash", "-c", f"{script}; sleep 60 & echo $!; kill -9 $$", sys.executable]
    pipes = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first:
        child = int(first.stdout.readline())
        first.wait()
        with (tmp_path / ".lock").open("r+") as file:
            monkeypatch.setattr(hold, "_GRACE", 0.3)
            with pytest.raises(ValueError, match="what is left of a .* which has ended"):
                hold.take(file.fileno(), tmp_path, "b", 1)
            monkeypatch.setattr(hold, "_GRACE", 30.0)
            os.kill(child, signal.SIGKILL)
            hold.take(file.fileno(), tmp_path, "b", 1)
