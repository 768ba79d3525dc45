"""What a result was made with: versions, machine and commit, as markdown for RESULTS.md."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

PACKAGES = ("torch", "torchaudio", "transformers", "espnet")
ROOT = Path(__file__).resolve().parents[2]


def environment_report() -> str:
    """The markdown block `## Environment`, one `- name: value` a line; what is not installed or
    cannot be told is reported as such."""
    from espnet_prune import __version__

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts = {
        "python": platform.python_version(),
        "OS": f"{_os_name()}, kernel {platform.release()}, {platform.machine()}",
        "CPU": _cpu_name(),
        "CPU cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.1f} GiB",
        "GPU": _gpu_names(),
        **{name: _package_version(name) for name in PACKAGES},
        "espnet_prune": __version__,
        "git commit": git_commit(ROOT),
    }
    return "\n".join(["## Environment", *(f"- {k}: `{v}`" for k, v in facts.items()), ""])


def git_commit(root: Path) -> str:
    """The hash of the commit checked out in `root`, with `-dirty` after it where tracked files
    differ from it; `unknown` where `root` is not the top of a git checkout."""
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
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _cpu_name() -> str:
    file = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", file.read_text("utf-8")) if file.is_file() else None
    return found[1].strip() if found else platform.processor() or "unknown"


def _gpu_names() -> str:
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join(names) or "none"
