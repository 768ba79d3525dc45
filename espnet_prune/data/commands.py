"""Commands in a wav.scp whose output is audio, as Kaldi's recipes have them.

They are run where a user has asked for it, and only while a data directory is formatted.
"""

from __future__ import annotations

import functools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from espnet_prune.files.freshness import stamp


@dataclass(frozen=True)
class Command:
    """A command of bash; in wav.scp there is a | behind."""

    text: str

    def __str__(self) -> str:
        return f"{self.text} |"

    def stamp(self) -> str:
        """What tells it from another one: its text, and the files that are words of it."""
        words = [word.strip("'\"") for word in self.text.split()]
        return " ".join([self.text, *(stamp(Path(word)) for word in words if os.path.isfile(word))])

    def output(self) -> bytes:
        """What it prints (ValueError: it fails)."""
        return _output_of(self.text)


@functools.lru_cache(maxsize=1)  # segments of a recording follow one another
def _output_of(text: str) -> bytes:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", text], stdin=subprocess.DEVNULL, capture_output=True
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = f": {said[-1][:200]}" if said else ""
        raise ValueError(f"{text} |: the command ended with status {done.returncode}{reason}")
    return done.stdout
