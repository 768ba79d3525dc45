"""The one door for audio: read it, check it, resample it, write it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile

# Longer tails of a segment than this are a fault of the segments file, not of rounding.
_SEGMENT_TOLERANCE_S = 0.1


def check_speech(
    samples: np.ndarray,
    rate: int,
    name: str | Path,
    *,
    fs: int | None = None,
    min_seconds: float = 0.0,
) -> None:
    """Check that samples can be used as speech.

    Args:
        samples: (T,) float samples of one channel.
        rate: their sampling rate in Hz.
        name: what to call them in the error: a file or an utterance.
        fs: the sampling rate in Hz they must have, if any.
        min_seconds: the shortest length in seconds that is taken.

    Raises:
        ValueError: several channels, no samples, another rate, too short, NaN or infinite samples.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ValueError(
            f"{name}: has shape {samples.shape} instead of one channel; mix it down first"
        )
    if samples.size == 0:
        raise ValueError(f"{name}: is empty, it has no samples; remove it or record it again")
    if fs is not None and rate != fs:
        raise ValueError(
            f"{name}: has {rate} Hz instead of {fs} Hz; "
            f"run python -m espnet_prune.recipe format_wav --fs {fs} on it first"
        )
    bad = np.flatnonzero(~np.isfinite(samples))
    if bad.size:
        raise ValueError(
            f"{name}: {bad.size} of {samples.size} samples are NaN or infinite, "
            f"the first at {bad[0] / rate:.3f} s; remove it or convert it again"
        )
    if samples.size < min_seconds * rate:
        raise ValueError(
            f"{name}: lasts {samples.size / rate:.3f} s, shorter than {min_seconds:g} s; remove it"
        )


def read_speech(
    path: str | Path, begin: float = 0.0, end: float | None = None
) -> tuple[np.ndarray, int]:
    """Read a file, or its part between two times in seconds: (T, channels) float32 and rate in Hz.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is empty or not audio, or the part lies outside of it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: is empty (0 bytes)")
    try:
        with soundfile.SoundFile(path) as audio:
            rate = audio.samplerate
            length = audio.frames / rate
            if end is not None and end > length + _SEGMENT_TOLERANCE_S:
                raise ValueError(
                    f"{path}: lasts {length:.3f} s, but a segment ends at {end:g} s; "
                    "mend the segments file"
                )
            first = min(round(begin * rate), audio.frames)
            audio.seek(first)
            count = -1 if end is None else max(0, min(round(end * rate), audio.frames) - first)
            return audio.read(count, dtype="float32", always_2d=True), rate
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path}: not audio that can be read ({error.error_string})") from None


def resample(samples: np.ndarray, rate: int, fs: int) -> np.ndarray:
    """Resample (T,) float32 samples from ``rate`` to ``fs`` Hz (band-limited sinc)."""
    import torch
    import torchaudio

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the workers are the parallelism
    try:
        return torchaudio.functional.resample(torch.from_numpy(samples), rate, fs).numpy()
    finally:
        torch.set_num_threads(threads)


def one_channel(
    samples: np.ndarray, rate: int, name: str | Path, fs: int, min_seconds: float = 0.0
) -> np.ndarray:
    """(T,) float32 at ``fs`` Hz: the mean of the channels, checked and resampled.

    Args:
        samples: (T, channels) as `read_speech` gives them.
        rate, name, min_seconds: as for `check_speech`.

    Raises:
        ValueError: as `check_speech`.
    """
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    check_speech(mono, rate, name, min_seconds=min_seconds)
    return resample(mono, rate, fs) if rate != fs else mono


def write_speech(path: str | Path, samples: np.ndarray, fs: int) -> None:
    """Write (T,) float samples in [-1, 1] as 16 bit FLAC or WAV, under a temporary name first."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    integers = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    soundfile.write(temporary, integers, fs, format=path.suffix[1:].upper(), subtype="PCM_16")
    os.replace(temporary, path)


def written_samples(path: Path, fs: int, sources: Iterable[str | Path]) -> int | None:
    """Samples of a file of an earlier run; None if it is absent, at another rate, or older than
    one of ``sources``."""
    try:
        when = path.stat().st_mtime
        if any(Path(source).stat().st_mtime > when for source in sources):
            return None
        info = soundfile.info(path)
    except (OSError, soundfile.LibsndfileError):
        return None
    return info.frames if info.samplerate == fs else None
