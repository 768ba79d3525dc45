"""ESPnet's inference with this package's plugins, for `model:` in an inference config of ESPnet 3.

    model:
      _target_: espnet_prune.plugin.espnet3.bin.asr_inference.Speech2Text # not espnet2.bin.…

`asr_inference` and so on are the modules of `espnet2.bin`. ESPnet 3 infers in processes of its own,
which import what the config names and nothing else of the recipe's.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from espnet_prune.plugin import run as run  # which registers the plugins when it is imported


def __getattr__(name: str) -> ModuleType:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return importlib.import_module(f"espnet2.bin.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"espnet2.bin.{name}":
            raise  # the module is there, but something that it imports is not
        raise AttributeError(f"ESPnet has no module {error.name}") from None
