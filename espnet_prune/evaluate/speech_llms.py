"""Speech LLMs as commands name them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from espnet_prune.evaluate.measuring import check_device
from espnet_prune.files.freshness import digest, stamp
from espnet_prune.speech_llm import SPEECH_LLMS, SpeechLLM


def kind_of(name: str) -> type[SpeechLLM]:
    """A class of `SPEECH_LLMS` (ValueError: it has no such name)."""
    if name not in SPEECH_LLMS:
        raise ValueError(f"speech_llm is '{name}', choose from {', '.join(SPEECH_LLMS)}")
    return SPEECH_LLMS[name]


def load_speech_llm(name: str, conf: Mapping[str, Any]) -> SpeechLLM:
    """Load a speech LLM with the arguments `conf` of its `from_pretrained`.

    ValueError: an argument that it does not have, or lacks; a device that is not there.
    """
    load = kind_of(name).from_pretrained
    transformers_logging.disable_progress_bar()
    check_device(str(conf.get("device", "cpu")), "device of speech_llm_conf")
    try:
        inspect.signature(load).bind(**conf)
    except TypeError as error:
        raise ValueError(f"speech_llm_conf of {name}: {error}") from None
    return load(**conf)


def model_mark(conf: Mapping[str, Any]) -> str:
    """Digest of the configuration and of names, sizes and times of a local directory's files: there
    may be 16 GB of them to read."""
    directories = [Path(v) for v in conf.values() if isinstance(v, str) and Path(v).is_dir()]
    files = [stamp(file) for each in directories for file in sorted(each.iterdir())]
    return digest([sorted(conf.items()), *files])[:16]
