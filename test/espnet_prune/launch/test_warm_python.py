import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_prune.launch import warm_python

PROGRAM = Path(warm_python.__file__)
SERVE = """
from espnet_prune.launch import warm_python
warm_python.MODULES = ["this"]  # prints; the others take seconds
warm_python.serve("{}")
"""


@pytest.fixture
def server(tmp_path):
    """Its process and the environment of commands."""
    root = str(PROGRAM.parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "WARM_PYTHON": str(tmp_path / "socket")}
    environment.pop("PYTHONUNBUFFERED", None)  # buffers are what forks inherit
    code = SERVE.format(tmp_path / "socket")
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    wait_for((tmp_path / "socket").exists)
    yield process, environment
    process.kill()
    process.wait()


def wait_for(condition, seconds: float = 60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def start(environment, folder, code: str, **kwargs) -> subprocess.Popen:
    return subprocess.Popen(
        [str(PROGRAM), "-c", code], env=environment, cwd=folder, text=True, **kwargs
    )


def test_as_an_interpreter(server, tmp_path):
    _, environment = server
    code = "import os, sys; print(os.getcwd(), os.environ['A']); sys.exit(3)"
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = start({**environment, "A": "b"}, tmp_path, code, **pipe)
    assert command.communicate()[0] == f"{tmp_path} b\n" and command.returncode == 3
    failing = start(environment, tmp_path, "1 / 0", **pipe)
    assert "ZeroDivisionError" in failing.communicate()[1] and failing.returncode == 1
    (tmp_path / "module.py").write_text("import sys\nprint(__name__, *sys.argv[1:])\n")
    command = [str(PROGRAM), "-m", "module", "x y", "--z"]
    printed = subprocess.check_output(command, env=environment, cwd=tmp_path, text=True)
    assert printed == "__main__ x y --z\n"


@pytest.mark.parametrize("kill", ["command", "server"])
def test_nothing_is_left_behind(server, tmp_path, kill):
    process, environment = server
    pid = tmp_path / "pid"
    code = "import os, time; open('pid.tmp', 'w').write(str(os.getpid()))"
    code += "; os.rename('pid.tmp', 'pid'); time.sleep(300)"
    command = start(environment, tmp_path, code)
    wait_for(pid.exists)
    assert alive(int(pid.read_text()))
    if kill == "command":
        command.kill()
    else:
        process.send_signal(signal.SIGTERM)
    wait_for(lambda: not alive(int(pid.read_text())))
    assert command.wait() != 0


def test_a_server_ends_with_the_script_that_has_started_it(tmp_path):
    code = SERVE.format(tmp_path / "socket")
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])}
    script = '"$0" -c "$1" & echo $!; wait'
    process = subprocess.Popen(
        ["bash", "-c", script, sys.executable, code],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    server = int(process.stdout.readline())
    wait_for((tmp_path / "socket").exists)
    time.sleep(1.5)  # it does not end by itself
    assert alive(server)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: not alive(server))


def test_without_a_server():
    environment = {name: value for name, value in os.environ.items() if name != "WARM_PYTHON"}
    done = subprocess.run(
        [str(PROGRAM), "-c", "1"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1 and "--serve SOCKET" in done.stderr


@pytest.mark.parametrize("before", [None, "another"])
def test_a_serving_process_of_before_is_there_again(tmp_path, monkeypatch, before):
    monkeypatch.setattr(warm_python, "__file__", str(tmp_path / "program.py"))
    (tmp_path / "program.py").write_text(
        "import sys, time\nopen(sys.argv[2], 'w')\ntime.sleep(60)\n"
    )
    monkeypatch.delenv("WARM_PYTHON", raising=False)
    if before:
        monkeypatch.setenv("WARM_PYTHON", before)
    with warm_python.serving(tmp_path, tmp_path):
        assert os.environ["WARM_PYTHON"] == str(tmp_path / "socket")
    assert os.environ.get("WARM_PYTHON") == before
