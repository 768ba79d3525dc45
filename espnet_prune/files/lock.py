"""One process at a time. Standard library only, as `espnet_prune.hub.debian` is.

Shell scripts ask here, too: `python3 -m espnet_prune.files.lock [--wait] DESCRIPTOR FOLDER WHO`
takes the lock for the script that calls it, whose open file DESCRIPTOR on FOLDER/.lock keeps it
until the script and all that it has started are gone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from espnet_prune.files.writing import alive

#: File in a folder that is locked; its content tells who holds it.
LOCK = ".lock"
#: Seconds that what a dead holder has started gets to end.
_GRACE = 30.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


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


@contextmanager
def held(folder: str | Path) -> Iterator[None]:
    """While this lasts, other processes that ask for the same folder get a ValueError that says who
    has it. The folder is made. A process that dies gives it back."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        take(descriptor, folder, shlex.join(sys.argv[:1]), os.getpid())
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # forks have copies
    finally:
        os.close(descriptor)


def take(descriptor: int, folder: Path, who: str, process: int, wait: bool = False) -> None:
    """Lock an open file of the folder.

    Args:
        descriptor: of the file `LOCK`; the lock lasts until all copies of it are closed.
        who: command of the holder, for those who ask later.
        process: its number.
        wait: until the folder is free.
    Raises:
        ValueError: another one holds it.
    """
    told, deadline = False, time.monotonic() + _GRACE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder, gone = _holder(descriptor)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            print(f"warning: {folder}: no locks here: {error.strerror}", file=sys.stderr)
            return
        if wait and not told:
            told = True
            print(f"{folder} is in use by {holder}: waiting", file=sys.stderr)
        if not wait and not (gone and time.monotonic() < deadline):
            raise ValueError(
                f"{folder} is in use by {holder}; wait for its end, or name another place"
            )
        time.sleep(0.1)
    note = f"{who}\n{process}\n{platform.node()}\n{time.strftime('%Y-%m-%d %H:%M:%S')}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, note.encode(), 0)


def _holder(descriptor: int) -> tuple[str, bool]:
    """Who holds the lock, in words, and whether its process is known to have ended."""
    lines = os.pread(descriptor, 1 << 16, 0).decode(errors="replace").splitlines()
    if len(lines) != 4 or not lines[1].isdecimal():
        return "another process", False
    who, process, host, since = lines
    gone = host == platform.node() and not alive(int(process))
    text = f"{who} (process {process} on {host}, since {since})"
    return (f"what is left of {text}, which has ended" if gone else text), gone


def main(argv: list[str]) -> None:
    """Take a lock for a shell script, see above."""
    wait = argv[:1] == ["--wait"]
    descriptor, folder, who = argv[wait:]
    try:
        take(int(descriptor), Path(folder), who, os.getppid(), wait)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
