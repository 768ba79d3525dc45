"""Take a lock for a script of a recipe.

usage: python3 -m espnet_prune.launch.hold [--wait] DESCRIPTOR FOLDER WHO

DESCRIPTOR is a file that the script has open, FOLDER/.lock. It keeps the lock until the script and
all that it has started are gone. When another one holds the folder, the error says who, or --wait
waits.
"""

# Standard library only, so that it starts at once.

from __future__ import annotations

import errno
import fcntl
import os
import platform
import sys
import time
from pathlib import Path

from espnet_prune.files.writing import alive

#: Seconds that what a dead holder has started gets to end.
_GRACE = 30.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


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
