"""One process at a time. Standard library only, as `espnet_prune.hub.debian` is."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


#: open locks; a forked child, such as a data loader's worker, must not hold them on
_held: set[int] = set()


def _let_go() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def held(file: str | Path, what: str) -> Iterator[None]:
    """While this lasts, other processes that ask for the same lock file are refused.

    The file says who holds it. It is removed at the end; what a killed process leaves of it is no
    lock any more.

    Args:
        file: its folder is made.
        what: names in the error what is in use.
    Raises:
        ValueError: another process holds it; with host, process id and command.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _open(file, what)
    _held.add(descriptor)
    try:
        command = shlex.join([sys.executable, *sys.argv])
        os.truncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}: {command}".encode())
        yield
    finally:
        # Only the holder: a child that was forked has no descriptor any more
        if descriptor in _held:
            _held.remove(descriptor)
            with suppress(OSError):
                file.unlink(missing_ok=True)
            os.close(descriptor)


def _open(file: Path, what: str) -> int:
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                logging.warning(f"{file}: no locks on this file system: start nothing twice")
                return descriptor
            holder = os.pread(descriptor, 4096, 0).decode(errors="replace") or "another process"
            os.close(descriptor)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            text = f"{what} is in use by {holder} (see {file}): wait for it, or stop it"
            raise ValueError(text) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                return descriptor
        os.close(descriptor)  # its last holder removed the file in between
