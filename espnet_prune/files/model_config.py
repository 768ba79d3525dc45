"""What the config.json of a model must not ask for.

`transformers` fetches code from the model hub, and runs it, where the implementation of attention
has the name of a repository. A configuration comes with the weights, from wherever these are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from espnet_prune.files.reading import read_record

#: what `transformers`, torch and flash-attn have themselves
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


def check_model_config(config: Mapping[str, Any], where: str | Path) -> None:
    """ValueError, which begins with `where`, for another attention than `ATTENTION` anywhere in a
    configuration of `transformers`."""
    for key, value in config.items():
        if str(key).endswith("attn_implementation"):
            for name in value.values() if isinstance(value, Mapping) else [value]:
                if name is not None and name not in ATTENTION:
                    known = ", ".join(ATTENTION)
                    raise ValueError(f"{where}: key '{key}' is {name!r}, choose from {known}")
        for part in _parts(value):
            check_model_config(part, where)


def check_model_directory(directory: str | Path) -> None:
    """The same for the config.json of a directory, where there is one."""
    file = Path(directory) / "config.json"
    if file.is_file():
        check_model_config(read_record(file), file)


def _parts(value: Any) -> Iterable[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        return [value]
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
