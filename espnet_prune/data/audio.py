"""The one door for audio: read it, check it, resample it, write it.

What cannot be used as speech raises ValueError, a file that is missing FileNotFoundError.
"""

from __future__ import annotations

import os
import struct
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from espnet_prune.data.data_dir import audio_path
from espnet_prune.files.writing import write_file

#: of all formatted audio and of all models here, in Hz
SAMPLING_RATE = 16000
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
    """Check samples: not several channels, another rate, too few or none, NaN or infinite.

    Args:
        samples: (T,) float samples of one channel.
        rate: their sampling rate in Hz.
        name: what to call them in the error: a file or an utterance.
        fs: the sampling rate in Hz they must have, if any.
        min_seconds: the shortest length in seconds that is taken.
    """
    samples = np.asarray(samples)
    bad = np.flatnonzero(~np.isfinite(samples))
    fault = ""
    if samples.ndim != 1:
        fault = f"has shape {samples.shape} instead of one channel; mix it down first"
    elif samples.size == 0:
        fault = "is empty, it has no samples; remove it or record it again"
    elif fs is not None and rate != fs:
        fault = f"has {rate} Hz instead of {fs} Hz; run `espnet-prune data format --fs {fs}` first"
    elif bad.size:
        number = f"{bad.size} of {samples.size} samples are NaN or infinite"
        fault = f"{number}, the first at {bad[0] / rate:.3f} s; remove it or convert it again"
    elif samples.size < min_seconds * rate:
        seconds = samples.size / rate
        fault = f"lasts {seconds:.3f} s, shorter than {min_seconds:g} s; remove it"
    if fault:
        raise ValueError(f"{name}: {fault}")


def read_speech(
    path: str | Path, begin: float = 0.0, end: float | None = None
) -> tuple[np.ndarray, int]:
    """Read a file, or its part between two times in seconds: (T, channels) float32 and rate in Hz.

    A file that is empty, not audio or ends early, and a part outside of it, are errors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: is empty (0 bytes)")
    check_whole(path)
    try:
        with soundfile.SoundFile(path) as audio:
            rate = audio.samplerate
            length = audio.frames / rate
            if end is not None and end > length + _SEGMENT_TOLERANCE_S:
                text = f"lasts {length:.3f} s, but a segment ends at {end:g} s; mend segments"
                raise ValueError(f"{path}: {text}")
            first = min(round(begin * rate), audio.frames)
            audio.seek(first)
            count = -1 if end is None else max(0, min(round(end * rate), audio.frames) - first)
            return audio.read(count, dtype="float32", always_2d=True), rate
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path}: not audio that can be read ({error.error_string})") from None


def check_whole(path: str | Path) -> None:
    """Check that a WAV file has all the audio that its header announces.

    Reading takes what is there of a file whose copying was broken off, and says nothing. Other
    formats than WAV, and headers written before the length was known, are not judged.
    """
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        kind, _, form = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
        while (kind, form) == (b"RIFF", b"WAVE"):
            chunk, length = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
            there = size - file.tell()
            if chunk == b"data":
                if there < length < 0x7FFF0000:  # from there on it stands for "not known"
                    text = f"ends early, it has {there} of {length} bytes of audio; fetch it again"
                    raise ValueError(f"{path}: {text}")
                return
            if there <= 0:
                return
            file.seek(length + length % 2, os.SEEK_CUR)


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


def load_speech(
    source: str | Path, fs: int = SAMPLING_RATE, *, name: str = "", num_samples: int | None = None
) -> np.ndarray:
    """The speech that a model hears: (T,) float32 of one channel at ``fs`` Hz, checked.

    Nothing is converted here, so that results do not depend on who listens; `data format` does
    that once for a whole corpus.

    Args:
        source: a file, or a value of wav.scp.
        fs: the sampling rate in Hz it has to have.
        name: of the utterance, for messages.
        num_samples: how many samples it has to have, if that is known.
    """
    path = source if isinstance(source, Path) else audio_path(source)
    name = f"{name}: {path}" if name else str(path)
    samples, rate = read_speech(path)
    samples = samples[:, 0] if samples.shape[1] == 1 else samples
    check_speech(samples, rate, name, fs=fs)
    check_length(len(samples), num_samples, name)
    return samples


def check_length(found: int, wanted: int | None, name: str | Path) -> None:
    """Check a number of samples against utt2num_samples."""
    if wanted is not None and found != wanted:
        how = "it ends early" if found < wanted else "it is another recording"
        text = f"has {found} samples, but utt2num_samples says {wanted}: {how}; make it again"
        raise ValueError(f"{name}: {text}")


def one_channel(
    samples: np.ndarray, rate: int, name: str | Path, fs: int, min_seconds: float = 0.0
) -> np.ndarray:
    """(T,) float32 at ``fs`` Hz: the mean of the channels, checked and resampled.

    Args:
        samples: (T, channels) as `read_speech` gives them.
        rate, name, min_seconds: as for `check_speech`.
    """
    mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
    check_speech(mono, rate, name, min_seconds=min_seconds)
    return resample(mono, rate, fs) if rate != fs else mono


def write_speech(path: str | Path, samples: np.ndarray, fs: int) -> None:
    """Write (T,) float samples in [-1, 1] as 16 bit FLAC or WAV, whole or not at all."""
    kind = Path(path).suffix[1:].upper()
    integers = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    options = {"samplerate": fs, "format": kind, "subtype": "PCM_16"}
    write = partial(soundfile.write, data=integers, **options)
    write_file(path, write, sync=False)  # a corpus has many, and `written_samples` looks at them


def written_samples(path: Path, fs: int) -> int | None:
    """Samples of a file of an earlier run; None if it is absent, damaged or at another rate."""
    try:
        info = soundfile.info(path)
    except (OSError, soundfile.LibsndfileError):
        return None
    return info.frames if info.samplerate == fs else None
