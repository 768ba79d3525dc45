"""One process at a time. Standard library only, as `espnet_prune.hub.debian` is."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While this lasts, other processes that ask for the same folder wait.

    The folder itself is the lock, so that no file is left; a process that dies gives it back.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
