"""Packages that only some rooms need: the extras of setup.py, imported when they are used."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingExtraError(ImportError):
    """A package of an extra is not installed; the message says how to install it."""


def load_extra(module: str, extra: str) -> ModuleType:
    """Import `module`, which the base installation does not have.

    Args:
        module: e.g. `sklearn.manifold`.
        extra: the name in setup.py of the extra that installs it, e.g. `sir`.
    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # the package is there, and something that it needs is not
        raise MissingExtraError(
            f'{error.name} is not installed; install it with: pip install "espnet_prune[{extra}]"'
        ) from error
