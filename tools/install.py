#!/usr/bin/env python3
"""Make the environment of espnet_prune in tools/venv; nothing but python3 (3.10 to 3.13) is needed.

usage: python3 tools/install.py [--active]

--active makes nothing: it checks the running Python, whose environment recipes use as it is when it
has ESPnet. The exit status is 0 if all that espnet_prune requires is there, too, 3 without ESPnet.

Gets `uv` when it is not on PATH, then installs setup.py's requirements (with the test extra) and
this checkout, editable. On Python 3.11 the versions are those of tools/constraints.txt, which are
the tested ones; on other versions of Python the newest that fit are taken. tools/overrides.txt
says what is left out. About 8 GB of disk.

Run it as often as you like: a finished environment is left as it is, one whose requirements have
changed is updated, one that an interruption left half made is made again (what was downloaded is
kept by uv's cache). What is set for pip (PIP_INDEX_URL, pip.conf, …) holds for uv too.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from espnet_prune.hub import clients, debian  # noqa: E402  standard library only

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
CONSTRAINED_PYTHON = (3, 11)
OLDEST_UV = (0, 5)  # UV_DEFAULT_INDEX and what else is set below
NEEDED_GB = 8
WITHOUT_ESPNET = 3
AGAIN = "then run the same command again: it goes on where it stopped"


class InstallError(Exception):
    """What went wrong and what to do about it, in one line."""


def say(text: str) -> None:
    print(f"install: {text}", flush=True)


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


# --- what is asked for, and whether it is there ---------------------------------------------------


def check_python(version: tuple[int, int]) -> None:
    """Raise InstallError unless ESPnet has a release for this Python."""
    if OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return
    raise InstallError(
        f"Python {dotted(version)} does not fit: ESPnet needs Python {dotted(OLDEST_PYTHON)} to "
        f"{dotted(NEWEST_PYTHON)}; run this script with such a one, for example: "
        f"python{dotted(CONSTRAINED_PYTHON)} tools/install.py"
    )


def wanted_state(root: Path) -> dict[str, str]:
    """What a finished environment's stamp says: a hash of its requirements, and the checkout.

    The checkout's path is part of it because scripts in an environment, and the editable
    installation, name absolute paths: an environment that was moved has to be made again.
    """
    digest = hashlib.sha256()
    for name in ("setup.py", "tools/constraints.txt", "tools/overrides.txt"):
        digest.update(hashlib.sha256((root / name).read_bytes()).digest())
    return {"requirements": digest.hexdigest(), "root": str(root)}


def read_stamp(venv: Path) -> dict[str, str]:
    """Return what the stamp in `venv` says, {} where there is none."""
    try:
        return json.loads((venv / ".complete.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_stamp(venv: Path, state: dict[str, str]) -> None:
    part = venv / ".complete.json.part"
    part.write_text(json.dumps(state), encoding="utf-8")
    os.replace(part, venv / ".complete.json")


def is_complete(venv: Path, state: dict[str, str]) -> bool:
    return read_stamp(venv) == state and os.access(venv / "bin" / "python", os.X_OK)


def venv_python_version(venv: Path) -> tuple[int, int] | None:
    """Version of the environment's Python, None where it does not run."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        run = subprocess.run(
            [str(venv / "bin" / "python"), "-c", code], capture_output=True, text=True, check=True
        )
        major, minor = run.stdout.split()
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None
    return int(major), int(minor)


# --- an active environment ------------------------------------------------------------------------


def requirements(setup: Path) -> list[str]:
    """`install_requires` of a setup.py."""
    for node in ast.walk(ast.parse(setup.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "install_requires":
            return ast.literal_eval(node.value)
    raise InstallError(f"{setup}: has no install_requires")


def lacking(required: list[str]) -> list[str]:
    """Those requirements that the running Python does not fulfil, with what it has instead."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # much of what is required brings it
        return required
    faults = []
    for requirement in map(Requirement, required):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        name = f"{requirement.name}{requirement.specifier}"
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            faults.append(name)
        else:
            if not requirement.specifier.contains(version, prereleases=True):
                faults.append(f"{name} (has {version})")
    return faults


def check_active(root: Path) -> int:
    """0 or `WITHOUT_ESPNET`; InstallError where ESPnet is there and something else is not."""
    if importlib.util.find_spec("espnet2") is None:
        return WITHOUT_ESPNET
    faults = lacking(requirements(root / "setup.py"))
    if faults:
        raise InstallError(
            f"the active environment {sys.prefix} has ESPnet, but not {', '.join(faults)}; run "
            f"`{sys.executable} -m pip install -e {root}`, or deactivate it to have tools/venv made"
        )
    return 0


# --- running pip and uv ---------------------------------------------------------------------------


def run(command: list[str], env: dict[str, str], keep_open: int | None = None) -> None:
    """Run `command`, showing what it prints without the long list of packages.

    `keep_open` is a file descriptor that the child keeps: with the lock's, the lock is held until
    the child has ended even if this process is killed.
    """
    output = []
    with subprocess.Popen(
        command,
        env=env,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=() if keep_open is None else (keep_open,),
    ) as process:
        for line in process.stdout:
            output.append(line)
            if not re.match(r" [+~-] \S+==", line):
                print("  " + line.rstrip(), flush=True)
    if process.returncode:
        reason = clients.explain("".join(output))
        text = f"{' '.join(map(str, command[:3]))} failed: {reason}; mend that, {AGAIN}"
        raise InstallError(f"{text} (packages come from {clients.index_of(env)})")


def succeeds(command: list[str], env: dict[str, str]) -> bool:
    try:
        return subprocess.run(command, env=env, capture_output=True).returncode == 0
    except OSError:
        return False


# --- uv -------------------------------------------------------------------------------------------


def uv_version(uv: str | Path) -> tuple[int, int] | None:
    """Version of a uv executable, None where it is not one."""
    try:
        run = subprocess.run([str(uv), "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.match(r"uv (\d+)\.(\d+)", run.stdout)
    return (int(match[1]), int(match[2])) if match else None


def find_uv(tools: Path, path: str | None) -> Path | None:
    """Return a uv that is new enough: from PATH, else the one an earlier run put in tools/.uv."""
    for candidate in (shutil.which("uv", path=path), tools / ".uv" / "bin" / "uv"):
        if candidate and (uv_version(candidate) or (0, 0)) >= OLDEST_UV:
            return Path(candidate)
    return None


def fetch_uv(tools: Path, python: str, env: dict[str, str]) -> Path:
    """Install uv from the package index into tools/.uv, with whatever pip can be had.

    In this order: a pip in an environment of its own (`python3 -m venv`), the system's pip, and on
    a Debian that has neither the pip in Debian's package python3-pip-whl, unpacked without root.
    """
    part = tools / ".uv.part"
    shutil.rmtree(part, ignore_errors=True)
    if succeeds([python, "-m", "venv", str(part)], env):
        run([str(part / "bin" / "python"), "-m", "pip", "install", "-q", "uv"], env)
    else:
        shutil.rmtree(part, ignore_errors=True)
        pip = [python, "-m", "pip"]
        if not succeeds([*pip, "--version"], env):
            pip = [python, str(debian_pip(tools / ".uv.part.debian") / "pip")]
        run([*pip, "install", "-q", "--target", str(part), "uv"], env)
        shutil.rmtree(tools / ".uv.part.debian", ignore_errors=True)
    shutil.rmtree(tools / ".uv", ignore_errors=True)
    os.replace(part, tools / ".uv")
    uv = tools / ".uv" / "bin" / "uv"
    if uv_version(uv) is None:
        raise InstallError(f"{uv} does not run on this machine; put a uv that does on PATH")
    return uv


def debian_pip(work: Path) -> Path:
    """Return the wheel of Debian's pip, fetched and unpacked under `work` (no root needed)."""
    advice = "install one of uv, pip, python3-venv, " + AGAIN
    say("no uv, pip or ensurepip here: fetching Debian's python3-pip-whl")
    try:
        unpacked = debian.fetch_packages(["python3-pip-whl"], work)
    except (OSError, RuntimeError, ValueError) as error:
        raise InstallError(f"no uv, venv or pip here, and {error}; {advice}") from error
    wheels = sorted(Path(unpacked).glob("usr/share/python-wheels/pip-*.whl"))
    if not wheels:
        raise InstallError(f"Debian's python3-pip-whl holds no pip wheel: {advice}")
    return wheels[-1]


# --- the environment ------------------------------------------------------------------------------


@contextlib.contextmanager
def lock(file: Path):
    """Hold the installer's lock and yield its file descriptor; wait for another installer."""
    with open(file, "a+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another installation is running; waiting for it to end")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()


def check_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free / 1e9
    if free < NEEDED_GB:
        raise InstallError(
            f"{folder}: {free:.1f} GB of disk are free and the environment needs about "
            f"{NEEDED_GB} GB; free some, {AGAIN}"
        )


def install(root: Path, held: int) -> None:
    """Bring root/tools/venv to the wanted state; the lock, whose descriptor is `held`, is ours."""
    tools, venv = root / "tools", root / "tools" / "venv"
    unfinished = tools / ".venv.installing"  # outside, so that it survives a half removed venv
    state = wanted_state(root)
    if is_complete(venv, state):
        return
    start = time.monotonic()
    python = os.path.realpath(sys.executable) if sys.prefix != sys.base_prefix else sys.executable
    env = clients.client_environment(os.environ, clients.own_settings(os.environ))

    moved = read_stamp(venv).get("root", str(root)) != str(root)
    version = None if unfinished.exists() or moved else venv_python_version(venv)
    make_anew = version is None
    if make_anew:
        version = sys.version_info[:2]
        check_python(version)
        if not unfinished.exists():
            check_disk(tools)
    uv = find_uv(tools, os.environ.get("PATH"))
    if uv is None:
        say("getting uv")
        uv = fetch_uv(tools, python, env)

    unfinished.touch()
    with contextlib.suppress(FileNotFoundError):
        (venv / ".complete.json").unlink()
    if make_anew:
        if venv.exists():
            say("tools/venv is half made or was moved: making it again")
            shutil.rmtree(venv)
        run([str(uv), "venv", "--python", python, str(venv)], env, held)
    options = ["--overrides", str(tools / "overrides.txt")]
    if version == CONSTRAINED_PYTHON:
        options += ["--constraints", str(tools / "constraints.txt")]
    else:
        say(
            f"tools/constraints.txt holds the tested versions for Python "
            f"{dotted(CONSTRAINED_PYTHON)}; this is {dotted(version)}: taking the newest that fit"
        )
    say("installing packages (several GB the first time, some minutes)")
    target = ["--python", str(venv / "bin" / "python")]
    run([str(uv), "pip", "install", *target, *options, "--editable", ".[test]"], env, held)
    say("trying to import them")
    check = "import torch, torchaudio, transformers, soundfile, espnet2, espnet_prune"
    run([str(venv / "bin" / "python"), "-c", check], env, held)

    write_stamp(venv, state)
    unfinished.unlink()
    say(f"done in {time.monotonic() - start:.0f} s")


def main() -> None:
    if sys.argv[1:] not in ([], ["--active"]):
        print(__doc__.strip())
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    try:
        if sys.argv[1:]:
            sys.exit(check_active(ROOT))
        tools = ROOT / "tools"
        if not is_complete(tools / "venv", wanted_state(ROOT)):
            with lock(tools / ".install.lock") as held:
                install(ROOT, held)
        say("the environment is ready: tools/venv")
    except (InstallError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("error: interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
