"""The one door for audio: read it, check it, resample it, write it.

Audio is one channel of samples in [-1, 1]. What is not, or cannot be read to its end, raises
ValueError; a file that is missing raises FileNotFoundError. Nothing is clipped or cut, and channels
are mixed only where that is asked for.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import kaldiio
import numpy as np
import soundfile

from espnet_prune.data.commands import Command
from espnet_prune.data.data_dir import audio_path
from espnet_prune.files import archives
from espnet_prune.files.writing import write_file

#: of all formatted audio and of all models here, in Hz
SAMPLING_RATE = 16000
#: endings of files that are taken for audio where a whole folder is searched
SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au .caf .w64 .rf64 .sph".split())
# Formats of which it is known how to tell that a file ends early.
_FORMATS = frozenset("WAV WAVEX RF64 W64 AIFF AU CAF NIST FLAC OGG MP3".split())
# Their decoders go beyond the range of what was encoded, by a third for a full-scale square wave.
_LOSSY = frozenset("MPEG_LAYER_I MPEG_LAYER_II MPEG_LAYER_III VORBIS OPUS".split())
_OVERSHOOT = 2.0
# Longer tails of a segment than this are a fault of the segments file, not of rounding.
_SEGMENT_TOLERANCE_S = 0.1
# A file may announce so many samples (128 MB in memory, 35 minutes at 16 kHz), or so many a byte:
# no codec packs speech more tightly, and a header is easily wrong.
_FREE_SAMPLES, _SAMPLES_PER_BYTE = 2**25, 100
# Taps of a resampling filter. 44.1 kHz to 16 kHz needs 70,560, 44,101 Hz to 16 kHz 700 million.
_MOST_TAPS = 2**21
# Samples that are resampled at a time: torchaudio takes many times the memory of what it is given.
_BLOCK = 2**22
# What libsndfile notes where a file is shorter than its header says.
_SHORTER = re.compile(
    r"(?:SSND|Data Size|riff)\s*: (?P<wanted>\d+) \(should be (?P<found>\d+)\)"
    r"|count (?P<frames>\d+) does not match value from 'ds64' chunk of (?P<all>\d+)"
)
_MP3_KBITS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def check_speech(
    samples: np.ndarray,
    rate: int,
    name: str | Path,
    *,
    fs: int | None = None,
    min_seconds: float = 0.0,
) -> None:
    """Check samples: whole numbers, several channels, another rate, too few or none, NaN or
    infinite, beyond [-1, 1].

    Args:
        samples: (T,) float samples of one channel.
        rate: their sampling rate in Hz.
        name: what to call them in the error: a file or an utterance.
        fs: the sampling rate in Hz they must have, if any.
        min_seconds: the shortest length in seconds that is taken.
    """
    samples = np.asarray(samples)
    fault = ""
    if not np.issubdtype(samples.dtype, np.floating):
        fault = f"has samples of type {samples.dtype}; give floating point numbers in [-1, 1]"
    elif samples.ndim != 1:
        fault = f"has shape {samples.shape} instead of one channel; {_ONE_CHANNEL}"
    elif samples.size == 0:
        fault = "is empty, it has no samples; remove it or record it again"
    elif fs is not None and rate != fs:
        fault = f"has {rate} Hz instead of {fs} Hz; run `espnet-prune data format --fs {fs}` first"
    elif not (-1.0 <= samples.min() and samples.max() <= 1.0):  # NaN where a sample is
        fault = _out_of_range(samples, rate)
    elif samples.size < min_seconds * rate:
        seconds = samples.size / rate
        fault = f"lasts {seconds:.3f} s, shorter than {min_seconds:g} s; remove it"
    if fault:
        raise ValueError(f"{name}: {fault}")


_ONE_CHANNEL = "write the wanted one, or their mix, to a file of its own"


def _out_of_range(samples: np.ndarray, rate: int) -> str:
    for bad, what, advice in (
        (~np.isfinite(samples), "NaN or infinite", "remove it or convert it again"),
        (np.abs(samples) > 1.0, "beyond [-1, 1]", "scale it (16 bit numbers: divide by 32768)"),
    ):
        found = np.flatnonzero(bad)
        if found.size:
            number = f"{found.size} of {samples.size} samples are {what}"
            return f"{number}, the first at {found[0] / rate:.3f} s; {advice}"
    return ""


def read_speech(
    path: str | Path | Command, begin: float = 0.0, end: float | None = None, mix: bool = False
) -> tuple[np.ndarray, int]:
    """Read a file, or its part between two times in seconds: (T,) float32 and rate in Hz, checked.

    ``ARCHIVE:BYTE`` is a file in an archive, here and in all that reads audio, see
    `espnet_prune.files.archives`. A command is run for what it prints.

    A file that is empty, not audio or ends early, several channels unless they are to be mixed
    (their mean), and a part outside of it, are errors.
    """
    with _opened(path, mix) as (audio, length):
        rate = audio.samplerate
        if end is not None and end > length / rate + _SEGMENT_TOLERANCE_S:
            seconds = f"{length / rate:.3f} s"
            raise ValueError(
                f"{path}: lasts {seconds}, but a segment ends at {end:g} s; mend segments"
            )
        first = min(round(begin * rate), length)
        count = length - first if end is None else max(0, min(round(end * rate), length) - first)
        if first and audio.seekable():
            audio.seek(first)
        elif first:
            audio.read(first, dtype="float32")
        samples = audio.read(count, dtype="float32")
        if len(samples) < count:
            raise ValueError(f"{path}: {_early(first + len(samples), length, 'samples')}")
        if samples.ndim > 1:
            samples = samples.mean(1)
        if audio.subtype in _LOSSY and np.abs(samples).max(initial=0.0) <= _OVERSHOOT:
            samples = samples.clip(-1.0, 1.0)  # as what was encoded
    check_speech(samples, rate, str(path))
    return samples, rate


def length_of(path: str | Path) -> tuple[int, int]:
    """Number of samples and rate in Hz of a file, errors as of `read_speech`; none is decoded."""
    with _opened(path) as (audio, length):
        return length, audio.samplerate


@contextmanager
def _opened(
    path: str | Path | Command, mix: bool = False
) -> Iterator[tuple[soundfile.SoundFile, int]]:
    """An audio file of one channel, or of several that are mixed, with what its header announces,
    and its number of samples."""
    opened: AbstractContextManager[tuple[BinaryIO, int]]
    if isinstance(path, Command):
        output = path.output()
        opened = nullcontext((io.BytesIO(output), len(output)))
    else:
        opened = archives.opened(path)
    with opened as (file, size):
        if size == 0:
            raise ValueError(f"{path}: is empty (0 bytes)")
        _check_whole(path, file, size)
        file.seek(0)
        try:
            # libsndfile reads a file of its own faster than through Python
            alone = not isinstance(path, Command) and archives.place_of(path)[1] is None
            with soundfile.SoundFile(path if alone else file) as audio:
                length = _checked_length(path, file, size, audio, mix)
                yield audio, length
        except soundfile.LibsndfileError as error:
            reason = error.error_string.strip(" .:") or "it ends early or is damaged"
            raise ValueError(f"{path}: not audio that can be read ({reason})") from None


def _checked_length(
    path: str | Path | Command, file: BinaryIO, size: int, audio: soundfile.SoundFile, mix: bool
) -> int:
    """Number of samples; that there are other channels which are not mixed, or less than announced,
    is an error."""
    fault, length = "", audio.frames
    if audio.format not in _FORMATS:
        fault = (
            f"is {audio.format}, of which nobody can tell whether it is whole; convert it to FLAC"
        )
    elif audio.channels != 1 and not mix:
        fault = f"has {audio.channels} channels instead of one; {_ONE_CHANNEL}"
    elif length >= 2**62:  # how libsndfile says that it does not know
        fault = "does not say how long it is, as if written to a pipe; encode it into a file"
    elif length > max(_FREE_SAMPLES, _SAMPLES_PER_BYTE * size):
        fault = f"announces {length} samples in {size} bytes; it is damaged, encode it again"
    elif note := _SHORTER.search(audio.extra_info):
        found, wanted = (
            int(note[a] or note[b]) for a, b in (("found", "frames"), ("wanted", "all"))
        )
        if found < wanted < 0x7FFF0000:
            fault = _early(found, wanted, "bytes" if note["found"] else "samples")
    elif audio.format == "NIST":
        fault = _nist_fault(_bytes_of(file, 1024), length)
    elif audio.format == "MP3":
        length, fault = _mp3_length(_bytes_of(file), length)
    if fault:
        raise ValueError(f"{path}: {fault}")
    return length


def _early(found: int, wanted: int, unit: str) -> str:
    return f"ends early, it has {found} of {wanted} {unit} of audio; fetch it again"


def check_whole(path: str | Path) -> None:
    """Check that a WAV or Ogg file has all the audio that its headers announce.

    Reading takes what is there of a file whose copying was broken off, and says nothing. Other
    formats are checked where they are opened. Lengths that nobody knew when the header was written
    are not judged.
    """
    with archives.opened(path) as (file, size):
        _check_whole(path, file, size)


def _check_whole(path: str | Path | Command, file: BinaryIO, size: int) -> None:
    kind, _, form = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
    if kind == b"OggS":
        file.seek(max(0, size - 2**17))  # a page has 64 kB at most
        tail = file.read()
        page = tail[tail.rfind(b"OggS") :]
        sizes = page[27 : 27 + page[26]] if len(page) > 26 else b""
        wanted = 27 + len(sizes) + sum(sizes)
        if len(page) < 27 or len(sizes) < page[26] or len(page) < wanted:
            raise ValueError(f"{path}: {_early(len(page), wanted, 'bytes of the last page')}")
    while (kind, form) == (b"RIFF", b"WAVE"):
        chunk, length = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        there = size - file.tell()
        if chunk == b"data":
            if there < length < 0x7FFF0000:  # from there on it stands for "not known"
                raise ValueError(f"{path}: {_early(there, length, 'bytes')}")
            return
        if there <= 0:
            return
        file.seek(length + length % 2, os.SEEK_CUR)


def _bytes_of(file: BinaryIO, most: int = -1) -> bytes:
    """The first bytes of a file that libsndfile may be reading, too."""
    at = file.seek(0, os.SEEK_CUR)
    file.seek(0)
    try:
        return file.read(most)
    finally:
        file.seek(at)


def _nist_fault(head: bytes, length: int) -> str:
    announced = re.search(rb"sample_count -i (\d{1,15})\s", head)
    early = announced is not None and length < int(announced[1])
    return _early(length, int(announced[1]), "samples") if early else ""


def _mp3_length(data: bytes, length: int) -> tuple[int, str]:
    """Number of samples of an MP3, and what is wrong with it.

    `length`, libsndfile's number, is a guess where the first frame is no table of contents; then
    samples are counted frame by frame.
    """
    at = data.find(b"\xff")
    if data[:3] == b"ID3" and len(data) > 10:
        at = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True)
        )
    samples, told = 0, False
    while data[at : at + 1] == b"\xff" and len(data) >= at + 4:
        version, layer = data[at + 1] >> 3 & 3, data[at + 1] >> 1 & 3
        rates, index = _MP3_RATES.get(version, ()), data[at + 2] >> 2 & 3
        kbits, pad = data[at + 2] >> 4, data[at + 2] >> 1 & 1
        if layer != 1 or index >= len(rates) or not 0 < kbits < 15:
            return length, ""  # another layer, a free bit rate, or something behind the audio
        in_frame = 1152 if version == 3 else 576
        rate = _MP3_KBITS[3 if version == 3 else 2][kbits] * 1000
        end = at + in_frame // 8 * rate // rates[index] + pad
        told = told or not samples and any(tag in data[at:end] for tag in (b"Xing", b"Info"))
        if end > len(data):
            return length, _early(len(data) - at, end - at, "bytes of the last frame")
        at, samples = end, samples + in_frame
    return (length if told or not samples else samples), ""


def resample(samples: np.ndarray, rate: int, fs: int, name: str | Path = "audio") -> np.ndarray:
    """Resample (T,) float32 samples in [-1, 1] from ``rate`` to ``fs`` Hz (band-limited sinc).

    The filter overshoots beside steps; what goes beyond [-1, 1] is set to its ends.

    Raises:
        ValueError: the rates have no simple ratio, or are too far apart, and a filter for them
            would not fit into memory. ``name`` is what the message begins with.
    """
    import torch
    import torchaudio

    common = math.gcd(rate, fs)
    if (rate // common) * (fs // common) > _MOST_TAPS or not fs / 64 <= rate <= 64 * fs:
        text = f"has {rate} Hz, which cannot be made {fs} Hz; is its header right?"
        raise ValueError(f"{name}: {text} Convert it with another program")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the workers are the parallelism
    old, new = rate // common, fs // common
    around = 16 * old * max(1, -(-old // new))  # more than the filter's ends hear, and whole steps
    block = max(1, _BLOCK // old) * old
    changed = np.empty(-(-len(samples) * new // old), np.float32)
    try:
        for begin in range(0, len(samples), block):
            first = max(0, begin - around)
            # torchaudio counts in float32: a step more, or it may give a sample less than there are
            heard = torch.from_numpy(np.pad(samples[first : begin + block + around], (0, old)))
            part = torchaudio.functional.resample(heard, rate, fs)[(begin - first) // old * new :]
            place = changed[begin // old * new :][: block // old * new]
            place[:] = part[: len(place)].clamp_(-1.0, 1.0).numpy()
        return changed
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
    try:
        samples, rate = read_speech(path)
        check_speech(samples, rate, path, fs=fs)
        check_length(len(samples), num_samples, path)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{name}: {error}") if name else error from None
    return samples


def check_length(found: int, wanted: int | None, name: str | Path) -> None:
    """Check a number of samples against utt2num_samples."""
    if wanted is not None and found != wanted:
        how = "it ends early" if found < wanted else "it is another recording"
        text = f"has {found} samples, but utt2num_samples says {wanted}: {how}; make it again"
        raise ValueError(f"{name}: {text}")


def at_rate(
    samples: np.ndarray, rate: int, name: str | Path, fs: int, min_seconds: float = 0.0
) -> np.ndarray:
    """(T,) float32 at ``fs`` Hz, of samples as `read_speech` gives them: checked and resampled.

    Args:
        rate, name, min_seconds: as for `check_speech`.
    """
    check_speech(samples, rate, name, min_seconds=min_seconds)
    return resample(samples, rate, fs, name) if rate != fs else samples


def write_speech(path: str | Path, samples: np.ndarray, fs: int) -> None:
    """Write (T,) float samples in [-1, 1] as 16 bit FLAC or WAV, whole or not at all."""
    integers = _as_integers(samples, fs, path)
    content = io.BytesIO()  # so that a full disk is an OSError, which libsndfile's error is not
    kind = Path(path).suffix[1:].upper()
    soundfile.write(content, integers, samplerate=fs, format=kind, subtype="PCM_16")
    # A corpus has many files, and `written_samples` looks at them
    write_file(path, lambda place: place.write_bytes(content.getbuffer()), sync=False)


def append_speech(file: BinaryIO, name: str, samples: np.ndarray, fs: int, kind: str) -> int:
    """Append (T,) float samples in [-1, 1] as 16 bit audio to an archive that is being written.

    Args:
        name: of the recording, without blanks.
        kind: "flac" or "wav".
    Returns: the byte at which it begins, see `espnet_prune.files.archives`.
    """
    recording = {name: (fs, _as_integers(samples, fs, name))}
    begin = file.tell() + len(f"{name} ".encode())
    options = {"format": kind, "subtype": "PCM_16"}
    kaldiio.save_ark(file, recording, write_function="soundfile", write_kwargs=options)
    return begin


def _as_integers(samples: np.ndarray, fs: int, name: str | Path) -> np.ndarray:
    check_speech(samples, fs, name)
    scaled = samples * 32768.0
    np.rint(scaled, out=scaled)
    return np.minimum(scaled, 32767.0, out=scaled).astype(np.int16)  # 1.0 would be 32768


def written_samples(path: Path, fs: int) -> int | None:
    """Samples of a file of an earlier run; None if it is absent, damaged or at another rate."""
    try:
        with _opened(path) as (audio, length):
            audio.seek(max(0, length - 1))
            whole = len(audio.read(1)) == min(1, length)  # a header may be there without the rest
            return length if whole and audio.samplerate == fs else None
    except (OSError, ValueError):
        return None
