"""What a result was made with: versions, machine and commit, as markdown for RESULTS.md."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("torch", "torchaudio", "transformers", "espnet")
ROOT = Path(__file__).resolve().parents[2]


def environment_report() -> str:
    """Return the markdown block `## Environment`, one `- name: value` a line.

    Nothing is an error here: what is not installed or cannot be told is reported as such.
    """
    from espnet_prune import __version__

    facts = {"python": platform.python_version(), "OS": _os_name()}
    facts["CPU"] = _cpu_name()
    facts["CPU cores"] = str(_usable_cores())
    facts["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    facts["GPU"] = _gpu_names()
    facts.update((name, _package_version(name)) for name in PACKAGES)
    facts["espnet_prune"] = __version__
    facts["git commit"] = git_commit(ROOT)
    lines = [f"- {name}: `{value}`" for name, value in facts.items()]
    return "\n".join(["## Environment", *lines, ""])


def git_commit(root: Path) -> str:
    """Return the hash of the commit checked out in `root`, with `-dirty` after it where tracked
    files differ from it; `unknown` where `root` is not the top of a git checkout."""
    try:
        top = _git(root, "rev-parse", "--show-toplevel")
        if Path(top).resolve() != root.resolve():  # installed below some other project's checkout
            return "unknown"
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        return _git(root, "rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _os_name() -> str:
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    return f"{system}, kernel {platform.release()}, {platform.machine()}"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpu_names() -> str:
    try:
        import torch
    except ImportError:
        return "unknown (no torch)"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(names) or "none"
