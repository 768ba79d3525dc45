"""Gives ESPnet's tasks the plugins of plugins.yaml.

ESPnet looks its frontends and encoders up by name in tables, one pair per task module. Importing
a task module takes seconds, and some need packages that are not there, so `register` touches none
of them: it has a plugin added right after Python has imported a module that holds such a table.
That also puts it into the copies that `espnet2.tasks.enh_s2t` takes of other tasks' tables.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType

from espnet_prune.files.reading import package_table
from espnet_prune.plugin.task_options import complete_options

PACKAGE = "espnet2.tasks"
#: tasks of ESPnet 3 with tables of their own: the module -> the one of `PACKAGE` that it copies
COPIES = {
    "espnet3.systems.esp2_asr.task": "asr",
    "espnet3.systems.esp2_asr.src.transducer_task": "asr_transducer",
}


@dataclass(frozen=True)
class Plugin:
    """A class under the name that selects it in an ESPnet YAML file.

    Args:
        name: what the YAML file says. Lower case: ESPnet's parser lower-cases it.
        target: "module:class", imported when the first table gets it.
        tables: "<module of espnet2.tasks>.<variable that holds the `ClassChoices`>".
    Raises:
        ValueError: a name that ESPnet's parser cannot select.
    """

    name: str
    target: str
    tables: Sequence[str]

    def __post_init__(self) -> None:
        if self.name in ("none", "nil", "null"):
            raise ValueError(f"plugin name '{self.name}': ESPnet reads it as no class at all")
        if self.name != self.name.lower():
            raise ValueError(f"plugin name '{self.name}': ESPnet selects lower-case names only")

    def load(self) -> type:
        """Import the class."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


PLUGINS = tuple(Plugin(**entry) for entry in package_table(__package__, "plugins.yaml"))


def register() -> None:
    """Add `PLUGINS` to ESPnet's tables, now and in task modules that are imported later.

    Call it before ESPnet builds a parser or reads a config.yaml. Calling it again changes nothing.

    Raises:
        ValueError: a table has another class of that name, or wants another base class. For a task
            module that is imported later, its import raises this.

    >>> register()  # from now on a YAML file may say `frontend: pruned_ssl`
    """
    for name in modules().keys() & sys.modules.keys():
        _fill(sys.modules[name])
    if not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def add(choices, plugin: Plugin, where: str) -> None:
    """Add one plugin to one table.

    Args:
        choices: an `espnet2.train.class_choices.ClassChoices`, which checks nothing after its
            construction. A class that builds others of its table has a dict `tables`, which gets
            it.
        where: the table's name.
    Raises:
        ValueError: as `register`.
    """
    cls = plugin.load()
    present = choices.classes.get(plugin.name)
    if present is cls:
        return
    if present is not None:
        other = f"{present.__module__}.{present.__qualname__}, so {plugin.target} cannot have it"
        raise ValueError(f"{where}: '{plugin.name}' is taken by {other}")
    base = choices.base_type
    if base is not None and not issubclass(cls, base):
        kind = f"{base.__module__}.{base.__qualname__}"
        raise ValueError(f"{where}: takes {kind} only, which {plugin.target} is not")
    choices.classes[plugin.name] = cls
    if hasattr(cls, "tables"):
        cls.tables[where] = choices


def modules() -> dict[str, str]:
    """Modules of ESPnet that hold our tables -> what plugins.yaml calls them."""
    names = {table.partition(".")[0] for plugin in PLUGINS for table in plugin.tables}
    own = {f"{PACKAGE}.{name}": name for name in names}
    return own | {module: name for module, name in COPIES.items() if name in names}


def _fill(module: ModuleType) -> None:
    """Add all plugins that have a table in this module, and complete its tasks' options."""
    for plugin in PLUGINS:
        for table in plugin.tables:
            name, _, variable = table.partition(".")
            if name != modules().get(module.__name__):
                continue
            choices = getattr(module, variable, None)
            if choices is None:  # another version of ESPnet
                logging.warning(f"{module.__name__} has no {variable}: no '{plugin.name}' there")
            else:
                add(choices, plugin, f"{module.__name__}.{variable}")
    complete_options(module)


class _AfterImport(MetaPathFinder):
    """Leaves finding a module to the other finders, and fills its tables once it has been run."""

    def find_spec(self, fullname, path, target=None):
        if not fullname.startswith(("espnet2.", "espnet3.")) or fullname not in modules():
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            _fill_after(spec.loader)
        return spec


def _fill_after(loader: Loader) -> None:
    """Have the next module that a loader runs filled; its `exec_module` is its own again then."""

    def exec_module(module: ModuleType) -> None:
        del loader.exec_module
        loader.exec_module(module)
        _fill(module)

    loader.exec_module = exec_module
