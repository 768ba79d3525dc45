"""Run a recipe's script so that what ends it ends all that it has started.

usage: python3 -m espnet_prune.launch.supervise SCRIPT [ARGUMENT ...]

A shell that is ended by a signal leaves its commands running, and those have commands of their
own. SIGTERM, SIGINT (Ctrl-C), SIGQUIT or SIGHUP to this process ends every one of them: with
SIGTERM, and with SIGKILL what is left after some seconds, or at once when a second signal comes.
The exit status is the script's, or 128 and the signal.
"""

# Standard library only, so that it starts at once.

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

#: those that end a process
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_GRACE = 15.0  # seconds; run.pl gives its jobs 10
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux


def main(argv: list[str]) -> int:
    """Run the script; the exit status."""
    if not argv:
        sys.exit(__doc__)
    asked: list[int] = []
    for number in heeded():
        signal.signal(number, lambda number, _: asked.append(number))
    with suppress(OSError, AttributeError):
        # A process that has lost its parent becomes a child of this one, and is still found.
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    script = subprocess.Popen(["bash", *argv])
    while not asked and script.poll() is None:
        time.sleep(0.05)
    if not asked:
        return script.returncode if script.returncode >= 0 else 128 - script.returncode
    end(asked)
    return 128 + asked[0]


@contextmanager
def ended_together() -> Iterator[None]:
    """While this lasts, a signal that ends this process ends all that it has started, too."""
    asked: list[int] = []

    def stop(number: int, _frame: object) -> None:
        asked.append(number)
        if len(asked) == 1:
            end(asked)
            os._exit(128 + number)

    with handled(stop):
        yield


def heeded() -> list[signal.Signals]:
    """The signals that end this process. nohup has a hang-up ignored; Ctrl-C is so in the
    background of a script, but counts."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in SIGNALS if number != signal.SIGHUP or not ignored]


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """While this lasts, `handler` is called for the signals that end this process."""
    before = {number: signal.signal(number, handler) for number in heeded()}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def end(asked: list[int]) -> None:
    """End all descendants of this process."""
    deadline, known = time.monotonic() + _GRACE, len(asked)
    told: set[int] = set()
    while found := set(descendants(os.getpid())):
        hurry = len(asked) > known or time.monotonic() > deadline
        for process in found if hurry else found - told:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL if hurry else signal.SIGTERM)
        told |= found
        time.sleep(0.05)


def descendants(process: int) -> list[int]:
    """The processes that a process has started, and theirs; those that have ended are reaped."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    children = defaultdict(list)
    for child, parent, state in _processes():
        if state != "Z":
            children[parent].append(child)
    found = children[process]
    for each in found:
        found += children[each]
    return found


def _processes() -> list[tuple[int, int, str]]:
    """Number, parent and state of each process."""
    if not os.path.isdir("/proc/self"):
        ps = subprocess.Popen(
            ["ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "state="],
            stdout=subprocess.PIPE,
            text=True,
        )
        rows = [line.split() for line in ps.communicate()[0].splitlines()]
        return [(int(a), int(b), c[0]) for a, b, c in rows if int(a) != ps.pid]
    found = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            # after the name, which may hold anything
            stat = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            found.append((int(entry), int(stat[1]), stat[0]))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
