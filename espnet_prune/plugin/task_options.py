"""What `pruned_ssl` changes in the options of a task of ESPnet, before they become config.yaml.

ESPnet writes config.yaml after it has built the model, "because they are allowed to modify args".
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

#: what plugins.yaml calls the frontend and the encoder that hold a pretrained model
NAME = "pruned_ssl"


def complete_options(module: ModuleType) -> None:
    """Have the tasks of one of ESPnet's modules complete their options around `build_model`."""
    for task in vars(module).values():
        if getattr(task, "__module__", None) == module.__name__ and hasattr(task, "build_model"):
            build = vars(task).get("build_model")
            if isinstance(build, classmethod) and not hasattr(build.__func__, "completes_options"):
                task.build_model = classmethod(_completing(build.__func__))


def _completing(build: Any) -> Any:
    @functools.wraps(build)
    def build_model(cls: type, args: Any) -> Any:
        options = vars(args)
        leave_waveforms_alone(options)
        model = build(cls, args)
        carry_structures(options)
        return model

    build_model.completes_options = True
    return build_model


def leave_waveforms_alone(options: dict[str, Any]) -> None:
    """Undo the normalisation that ESPnet would put in front of the encoder.

    Stock recipes ask for one on the command line, which beats the YAML file. It would be one of
    the waveform, which the pretrained model brings to the scale of its training itself.
    """
    if not _has_encoder(options):
        return
    for key in ("normalize", "src_normalize"):  # the latter in speech-to-speech translation
        if options.get(key) is not None:
            logging.warning(
                f"encoder: {NAME} reads the waveform and scales it as in its training: "
                f"{key}: {options[key]} is left out, here and in config.yaml"
            )
            options[key], options[f"{key}_conf"] = None, {}


def carry_structures(options: Mapping[str, Any]) -> None:
    """Write beside each `model` of `pruned_ssl` what it is built from, for inference without it.

    Raises:
        FileNotFoundError, ValueError: as `read_structure`.
    """
    from espnet_prune.structured.encoder import read_structure

    for conf in _confs(options):
        if conf.get("model") is not None and conf.get("structure") is None:
            conf["structure"] = read_structure(conf["model"])


def _confs(options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The arguments of `pruned_ssl` in the options of a task, or of a plugin that wraps it."""
    for key, name in options.items():
        conf = options.get(f"{key}_conf")
        if isinstance(name, str) and isinstance(conf, dict):
            if name.lower() == NAME:
                yield conf
            else:
                yield from _confs(conf)


def _has_encoder(options: Mapping[str, Any]) -> bool:
    """Whether the encoder is `pruned_ssl`, maybe inside of another plugin."""
    name, conf = options.get("encoder"), options.get("encoder_conf") or {}
    if isinstance(name, str) and name.lower() != NAME:
        return _has_encoder(conf)
    return isinstance(name, str)
