"""Synthetic speakers: CMU Flite's voices from Debian's packages, unpacked without root."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from espnet_prune.recipe.debian import fetch_packages
from espnet_prune.recipe.format_wav import resample

#: name -> Flite's own name; a woman (slt) and three men, clearest to Whisper first
VOICES = {"slt": "slt", "awb": "awb", "rms": "rms", "kal": "kal16"}
SAMPLING_RATE = 16000


class Flite:
    """Speaks English sentences, always the same way.

    Args:
        work: where the packages are unpacked; nothing is fetched again that is there.
    Raises:
        PackageNotFound: they cannot be downloaded on this machine.
    """

    def __init__(self, work: str | Path):
        tree = fetch_packages(["flite", "libflite1"], work)
        self._program = tree / "usr" / "bin" / "flite"
        libraries = sorted({str(path.parent) for path in tree.glob("usr/lib/**/libflite.so*")})
        known = os.environ.get("LD_LIBRARY_PATH")
        self._env = dict(
            os.environ, LD_LIBRARY_PATH=":".join([*libraries, *([known] if known else [])])
        )

    def speak(self, text: str, voice: str, speed: float = 1.0) -> np.ndarray:
        """The sentence as (T,) float32 at 16 kHz, without the silence around it.

        Args:
            voice: key of `VOICES`.
            speed: 1.0 is the voice's own.
        Raises:
            ValueError: an unknown voice, or a text without anything to speak.
        """
        if voice not in VOICES:
            raise ValueError(f"unknown voice '{voice}', choose from {', '.join(VOICES)}")
        if not any(c.isalnum() for c in text):
            raise ValueError(f"'{text}': nothing to speak")
        with tempfile.TemporaryDirectory() as folder:
            # From a file: an argument that begins with a dash, or is very long, would not do
            source, target = Path(folder, "text"), Path(folder, "wav")
            source.write_text(text + "\n", encoding="utf-8")
            command = [str(self._program), "-voice", VOICES[voice]]
            command += ["--setf", f"duration_stretch={1 / speed:g}"]
            command += ["-f", str(source), "-o", str(target)]
            done = subprocess.run(command, env=self._env, capture_output=True, text=True)
            if done.returncode or not target.is_file():
                raise ValueError(f"'{text}': flite failed: {done.stderr.strip()[-300:]}")
            samples, rate = soundfile.read(target, dtype="float32")
        return trim(resample(samples, rate, SAMPLING_RATE))


def trim(samples: np.ndarray, threshold: float = 0.003) -> np.ndarray:
    """Cut what is quieter than `threshold` off both ends, but for 20 ms."""
    loud = np.flatnonzero(np.abs(samples) > threshold)
    if not len(loud):
        return samples
    margin = SAMPLING_RATE // 50
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]
