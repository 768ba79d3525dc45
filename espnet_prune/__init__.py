"""Structured pruning of speech encoders and token pruning of speech language models for ESPnet.

The names below are imported when they are first used, so that `import espnet_prune` is quick:

    encoder = espnet_prune.prune("openai/whisper-tiny.en", "my_audio", target=0.5)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from espnet_prune.api import prune
    from espnet_prune.plugin.registry import register
    from espnet_prune.speech_llm.wrap import prune_tokens
    from espnet_prune.structured import GatedEncoder, load_encoder, load_model, slim
    from espnet_prune.tokens import TokenPruner

__version__ = "0.1.0"

#: public name -> the module that has it
_HOMES = {
    "GatedEncoder": "espnet_prune.structured",
    "TokenPruner": "espnet_prune.tokens",
    "load_encoder": "espnet_prune.structured",
    "load_model": "espnet_prune.structured",
    "prune": "espnet_prune.api",
    "prune_tokens": "espnet_prune.speech_llm.wrap",
    "register": "espnet_prune.plugin.registry",
    "slim": "espnet_prune.structured",
}

__all__ = [
    "GatedEncoder",
    "TokenPruner",
    "load_encoder",
    "load_model",
    "prune",
    "prune_tokens",
    "register",
    "slim",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
