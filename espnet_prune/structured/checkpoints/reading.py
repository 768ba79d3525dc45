"""Open a file written by `torch.save` without running anything that is in it.

fairseq stores its training options beside the tensors, as `argparse.Namespace` or OmegaConf
objects, and its dictionaries. Those are read as inert stand-ins that only keep what they were
given; any other object is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from espnet_prune.structured.tensor_files import RefusedObjectError, check_content, load_pickled

# What may be replaced by a stand-in: options, type annotations inside them, dictionaries.
_OPTIONS = re.compile(
    r"argparse\.Namespace|(?:omegaconf|fairseq)\.[\w.]+|typing\.\w+|operator\.getitem"
)
_MODULES = ("builtins", "__builtin__")
_TYPES = ("bool", "dict", "float", "int", "list", "object", "str", "tuple")
#: values in containers of a file, and containers within containers, that are looked at
_MOST_VALUES, _MOST_DEPTH = 3_000_000, 200


class StandIn:
    """In the place of an object of another package: its arguments and its state, no behaviour."""

    args: tuple
    state: object

    def __new__(cls, *args: object) -> StandIn:  # objects are also made without __init__
        new = super().__new__(cls)
        new.args, new.state = args, None
        return new

    def __setstate__(self, state: object) -> None:
        self.state = state


class Member(StandIn):
    """In the place of `getattr`, by which Python 3.11 stores the members of enumerations."""


def read_file(path: str | Path) -> Any:
    """The object that a `torch.save` file holds, options as plain containers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, no `torch.save` file, or holds objects other than tensors,
            plain containers and fairseq's options.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give a checkpoint file (.pt, .pth, .bin)")
    # A plain dict in the place of a defaultdict, whose default would be called
    allowed: dict[str, Callable] = {"collections.defaultdict": lambda *_: {}}
    for module in _MODULES:
        allowed |= {f"{module}.{name}": StandIn for name in _TYPES}
        allowed[f"{module}.getattr"] = Member
    while True:
        try:
            found = load_pickled(path, [(stand_in, name) for name, stand_in in allowed.items()])
            return plain(found, _Bounds(path))
        except RefusedObjectError as error:
            name = error.name
            if name in allowed or not _OPTIONS.fullmatch(name):
                raise ValueError(
                    f"{path}: holds a '{name}' and is not opened: save {{'state_dict': …, "
                    "'config': …} of plain tensors and values where the file comes from"
                ) from None
            # One name a round: the unpickler stops at the first that it does not know.
            allowed[name] = StandIn


class _Bounds:
    """Counts what is looked at: a few bytes can say "ten of these" many times over."""

    def __init__(self, path: Path):
        self.path, self.count = path, 0

    def check(self, value: object, depth: int) -> None:
        self.count += 1
        if self.count > _MOST_VALUES or depth > _MOST_DEPTH:
            raise ValueError(f"{self.path}: damaged: its containers have no end")
        if isinstance(value, Tensor):
            check_content(value, self.path)


def plain(value: Any, bounds: _Bounds, within: tuple[int, ...] = (), depth: int = 0) -> Any:
    """Stand-ins, at any depth, as the dicts, lists and values that they were made from.

    Args:
        within: ids of the stand-ins that `value` is part of; one inside itself becomes None.
        depth: containers that `value` is in.
    """
    bounds.check(value, depth)

    def inside(part: Any) -> Any:
        return plain(part, bounds, within, depth + 1)

    if isinstance(value, Member):
        # the member's name; its value is not in the file
        return value.args[-1] if value.args else None
    if isinstance(value, StandIn):
        if id(value) in within:
            return None
        within = (*within, id(value))
        if not isinstance(value.state, dict):
            return inside(value.args[0]) if value.args else None
        for content in ("_content", "_val"):  # OmegaConf's containers and its values
            if content in value.state:
                return inside(value.state[content])
        return inside(value.state)
    if isinstance(value, type):
        return None
    if isinstance(value, dict):
        return {key: inside(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(inside(item) for item in value)
    return value
