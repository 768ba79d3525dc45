"""ESPnet's tasks with this package's plugins, for `task:` in a YAML file of ESPnet 3.

    task: espnet_prune.plugin.espnet3.tasks.asr.ASRTask     # instead of ESPnet's ASRTask
    model:
      frontend: pruned_ssl
      frontend_conf: {model: exp/pruned}

`asr` and so on are the modules of `espnet2.tasks` that plugins.yaml names, or the copies of them
that ESPnet 3 has of its own: whatever ESPnet changes in a task is changed here, too.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from espnet_prune.plugin import registry
from espnet_prune.plugin import run as run  # which registers the plugins when it is imported


def _homes() -> dict[str, str]:
    """What plugins.yaml calls a module of tasks -> the module, ESPnet 3's before ESPnet 2's."""
    modules = registry.modules()
    return {modules[name]: name for name in sorted(modules)}


def __getattr__(name: str) -> ModuleType:
    homes = _homes()
    if name not in homes:
        raise AttributeError(f"there are no tasks {name!r}, choose from {', '.join(sorted(homes))}")
    return importlib.import_module(homes[name])
