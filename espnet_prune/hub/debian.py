"""Debian packages without root: private apt lists, ``apt-get download``, ``dpkg -x``.

Standard library only, because the installer runs it before any environment exists.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from espnet_prune.files.lock import alone

logger = logging.getLogger(__name__)

IDLE_SECONDS = 30  # that a mirror may be silent before apt gives up on it, and tries again
UPDATE_SECONDS, MOST_SECONDS = 300, 1800  # that apt-get update, and any other command, may take


class PackageNotFound(FileNotFoundError):
    """A Debian package, or apt itself, cannot be had on this machine."""


def fetch_packages(names: Iterable[str], workdir: str | Path) -> Path:
    """Download and unpack Debian packages and return the folder that holds their files.

    All packages share one tree, as on an installed system (``<tree>/usr/share/...``). A package
    that an earlier call unpacked is not fetched again; an interrupted call can be repeated.
    Dependencies are not followed: name every package that is needed.

    Args:
        names: names of Debian packages, of the release this machine's apt sources point to.
        workdir: folder for apt's private state and the tree; made if absent.

    Raises:
        PackageNotFound: apt-get or dpkg is missing, or a package cannot be downloaded.
        ValueError: a name is not a Debian package name.
    """
    names = list(names)
    for name in names:
        if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name):
            raise ValueError(f"{name!r} is not the name of a Debian package")
    work = Path(workdir).absolute()
    tree, done = work / "tree", work / "done"
    if all((done / name).exists() for name in names):
        return tree
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            text = "so Debian packages cannot be fetched on this machine"
            raise PackageNotFound(f"{tool} is not on PATH, {text}")
    for folder in (tree, done):
        folder.mkdir(parents=True, exist_ok=True)
    with alone(work):  # several processes of a recipe want the same voice
        missing = [name for name in names if not (done / name).exists()]
        if missing:
            logger.info("fetching the lists of Debian packages into %s", work / "apt")
            # Where it fails, older lists may still do.
            warning = _complaint(_run(*_apt(work, "update"), cwd=work, most=UPDATE_SECONDS))
        for number, name in enumerate(missing, 1):
            logger.info("Debian package %d of %d: %s", number, len(missing), name)
            _fetch_one(name, work, tree, warning)
            (done / name).touch()
    return tree


def _run(*command: str, cwd: Path, most: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run apt-get or dpkg; one that is still at it after `most` seconds is stopped and failed."""
    most = most or MOST_SECONDS
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=most,
        )
    except subprocess.TimeoutExpired:
        said = f"E: {command[0]} was stopped after {most:g} s; is the Debian mirror reachable?"
        return subprocess.CompletedProcess(command, 1, "", said)


def _apt(work: Path, *arguments: str) -> list[str]:
    """The command `apt-get`, with its state in a folder of ours."""
    options = {
        "Dir::State::Lists": work / "apt" / "lists",
        "Dir::Cache": work / "apt" / "cache",
        "Debug::NoLocking": 1,
        "Acquire::Retries": 3,
        "Acquire::http::Timeout": IDLE_SECONDS,
        "Acquire::https::Timeout": IDLE_SECONDS,
        # Run by root, apt would drop to a user who may not write in our folders.
        "APT::Sandbox::User": "",
    }
    for folder in ("lists", "cache/archives"):
        (work / "apt" / folder / "partial").mkdir(parents=True, exist_ok=True)
    return ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items()), *arguments]


def _complaint(result: subprocess.CompletedProcess[str]) -> str:
    """The first error, else the first warning, that apt or dpkg printed."""
    lines = result.stderr.splitlines()
    complaints = [line for mark in ("E:", "W:", "dpkg") for line in lines if line.startswith(mark)]
    return [*complaints, *reversed(lines), ""][0]


def _fetch_one(name: str, work: Path, tree: Path, warning: str) -> None:
    temporary = work / f"{name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    files = temporary / "files"
    files.mkdir(parents=True)
    result = _run(*_apt(work, "download", name), cwd=temporary)
    archives = list(temporary.glob("*.deb"))
    if result.returncode != 0 or len(archives) != 1:
        reason = _complaint(result) or "apt-get download wrote no file"
        said = f"; apt-get update said: {warning}" if warning else ""
        raise PackageNotFound(f"Debian package {name} cannot be had: {reason}{said}")
    result = _run("dpkg", "-x", str(archives[0]), str(files), cwd=temporary)
    if result.returncode != 0:
        raise PackageNotFound(f"Debian package {name} cannot be unpacked: {_complaint(result)}")
    _move_into(files, tree)
    shutil.rmtree(temporary)


def _move_into(source: Path, tree: Path) -> None:
    """Move each file of ``source`` to the same place in ``tree`` by renaming it."""
    for folder, subfolders, names in os.walk(source):
        target = tree / Path(folder).relative_to(source)
        target.mkdir(parents=True, exist_ok=True)
        links = [name for name in subfolders if (Path(folder) / name).is_symlink()]
        for name in [*names, *links]:
            os.replace(Path(folder) / name, target / name)
