"""Model cards: README.md of a directory, which a model hub shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def model_card(
    title: str,
    loading: str,
    code: str,
    paragraphs: Sequence[str] = (),
    *,
    tags: Sequence[str] = (),
    base_model: str = "",
    license_name: str = "",
    **entries: str,
) -> str:
    """A model card in Markdown: the entries that a hub sorts by, how the model is loaded, and more.

    Args:
        loading: what loads the model, with `code`.
        paragraphs: what follows, such as sizes and scores.
        tags: beside those of this package.
        base_model: directory or hub name of what was pruned; a hub links the latter.
        license_name: of the model, as the hub names it, such as "mit" or "cc-by-nc-4.0".
        entries: more of what the hub sorts by, such as library_name; empty ones are left out.
    """
    front: dict[str, object] = {name: value for name, value in entries.items() if value}
    front["tags"] = ["espnet_prune", "pruned", *tags]
    front |= {"license": license_name} if license_name else {}
    origin = []
    if base_model:
        on_hub = _HUB_NAME.fullmatch(base_model) and not Path(base_model).exists()
        front |= {"base_model": base_model} if on_hub else {}
        origin.append(f"Pruned from {base_model} with espnet_prune.")
    if license_name:
        origin.append(f"Licence: {license_name}.")
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    parts = [f"---\n{head}---", f"# {title}", *([" ".join(origin)] if origin else [])]
    return "\n\n".join([*parts, loading, f"```python\n{code}\n```", *paragraphs]) + "\n"
