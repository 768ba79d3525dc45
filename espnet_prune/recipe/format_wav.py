"""Format the audio of a data directory: one rate, one channel, 16 bit, one file per utterance."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
from tqdm import tqdm

from espnet_prune.recipe import data_dir

logger = logging.getLogger(__name__)

AUDIO_FORMATS = ("flac", "wav")
# Longer tails of a segment than this are a fault of the segments file, not of rounding.
_SEGMENT_TOLERANCE_S = 0.1

Item = TypeVar("Item")
Result = TypeVar("Result")


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

    torch.set_num_threads(1)  # the workers are the parallelism
    return torchaudio.functional.resample(torch.from_numpy(samples), rate, fs).numpy()


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


def parallel_map(
    function: Callable[[Item], Result], items: list[Item], num_workers: int, title: str
) -> Iterator[Result]:
    """Results of ``function`` on the items, in their order, with a progress bar.

    Raises:
        ValueError: ``num_workers`` < 1, or a worker was killed.
    """
    if num_workers < 1:
        raise ValueError(f"--nj {num_workers}: 1 or more is wanted")
    num_workers = min(num_workers, len(items))
    if num_workers <= 1:
        yield from tqdm(map(function, items), title, len(items), mininterval=2)
        return
    # spawn: a fork of a process in which torch has started threads may hang.
    context = multiprocessing.get_context("spawn")
    chunk = max(1, min(32, len(items) // (4 * num_workers)))
    with ProcessPoolExecutor(num_workers, context, initializer=_end_with_parent) as pool:
        try:
            results = pool.map(function, items, chunksize=chunk)
            yield from tqdm(results, title, len(items), mininterval=2)
        except BrokenProcessPool:
            raise ValueError(
                f"{title}: a worker was killed, perhaps for want of memory; "
                "run it again with a smaller --nj, what is written is kept"
            ) from None


def _end_with_parent() -> None:
    """End this worker when its parent is killed: else it would wait for work for ever."""

    def watch() -> None:
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@dataclass(frozen=True)
class _Task:
    utterance: str
    source: Path
    begin: float
    end: float | None
    segments: Path | None
    target: Path
    fs: int
    min_seconds: float


@dataclass(frozen=True)
class _Outcome:
    utterance: str
    num_samples: int = 0
    rate: int | None = None  # None where an earlier run wrote the file
    channels: int = 1
    fault: str = ""


def _format_one(task: _Task) -> _Outcome:
    try:
        sources = [task.source] + ([task.segments] if task.segments else [])
        kept = written_samples(task.target, task.fs, sources)
        if kept is not None:
            return _Outcome(task.utterance, kept)
        samples, rate = read_speech(task.source, task.begin, task.end)
        channels = samples.shape[1]
        mono = samples.mean(axis=1) if channels > 1 else samples[:, 0]
        check_speech(mono, rate, task.source, min_seconds=task.min_seconds)
        if rate != task.fs:
            mono = resample(mono, rate, task.fs)
        write_speech(task.target, mono, task.fs)
        return _Outcome(task.utterance, len(mono), rate, channels)
    except (ValueError, FileNotFoundError) as error:
        return _Outcome(task.utterance, fault=str(error))


@dataclass(frozen=True)
class FormatSummary:
    """What format_wav did: counts of utterances, and the faults of the bad ones."""

    num_utterances: int
    num_kept: int
    resampled: dict[int, int]
    num_mixed: int
    bad: dict[str, str]
    seconds: float

    def lines(self) -> list[str]:
        lines = [
            f"{self.num_utterances} utterances, {self.seconds / 60:.1f} minutes"
            f" ({self.num_kept} of them written by an earlier run)"
        ]
        for rate, number in sorted(self.resampled.items()):
            lines.append(f"{number} utterances resampled from {rate} Hz")
        if self.num_mixed:
            lines.append(f"{self.num_mixed} utterances mixed down to one channel")
        if self.bad:
            lines.append(f"{len(self.bad)} bad utterances dropped, see bad_utts")
        return lines


def format_wav(
    source: str | Path,
    target: str | Path,
    *,
    fs: int = 16000,
    audio_format: str = "flac",
    min_seconds: float = 0.1,
    skip_bad: bool = False,
    num_workers: int = 1,
) -> FormatSummary:
    """Write a data directory whose audio is one 16 bit mono file per utterance at ``fs`` Hz.

    Recordings at another rate are resampled, several channels averaged, segments cut out. Files
    that an earlier run wrote are kept unless their recording is newer. ``target`` gets wav.scp
    (absolute paths), utt2num_samples, feats_type and the other tables of ``source``.

    Args:
        source, target: data directories.
        fs: sampling rate in Hz.
        audio_format: "flac" or "wav".
        min_seconds: shorter utterances are bad.
        skip_bad: drop bad utterances and list them in ``bad_utts`` instead of failing.
        num_workers: number of processes.

    Raises:
        FileNotFoundError, ValueError: ``source`` is not a valid data directory, an option is out
            of range, no utterance is good, or some are bad (one line each) without ``skip_bad``.
    """
    source, target = Path(source), Path(target)
    if audio_format not in AUDIO_FORMATS:
        raise ValueError(f"--audio_format {audio_format}: one of {', '.join(AUDIO_FORMATS)}")
    if fs < 1:
        raise ValueError(f"--fs {fs}: a positive sampling rate in Hz is wanted")
    if source.resolve() == target.resolve():
        raise ValueError(f"{target}: source and target of format_wav are the same directory")
    errors = data_dir.validate(source, need_text=False, check_audio=False)
    if errors:
        more = f" (and {len(errors) - 1} more faults, see validate)" if len(errors) > 1 else ""
        raise ValueError(errors[0] + more)
    tables = data_dir.read_dir(source)
    tasks, bad = _tasks(source, target, tables, fs, audio_format, min_seconds)
    outcomes = []
    for outcome in parallel_map(_format_one, tasks, num_workers, f"format {target.name}"):
        if outcome.fault:
            bad[outcome.utterance] = outcome.fault
        else:
            outcomes.append(outcome)
    if bad and not skip_bad:
        lines = [f"{utterance}: {fault}" for utterance, fault in sorted(bad.items())]
        lines.append(
            f"{source}: {len(bad)} of {len(bad) + len(outcomes)} utterances are bad; "
            "mend them, or give --skip_bad true to leave them out"
        )
        raise ValueError("\n".join(lines))
    if not outcomes:
        raise ValueError(f"{source}: all {len(bad)} utterances are bad, see bad_utts")
    suffixes = {task.utterance: task.target for task in tasks}
    chosen = data_dir.select(tables, [outcome.utterance for outcome in outcomes])
    chosen.pop("segments", None)
    chosen["wav.scp"] = {o.utterance: str(suffixes[o.utterance].resolve()) for o in outcomes}
    chosen["utt2num_samples"] = {o.utterance: str(o.num_samples) for o in outcomes}
    data_dir.write_text(target / "feats_type", "raw\n")
    if bad:
        data_dir.write_table(target / "bad_utts", bad)
    else:
        (target / "bad_utts").unlink(missing_ok=True)
    data_dir.write_dir(target, chosen)
    rates = Counter(o.rate for o in outcomes if o.rate not in (None, fs))
    return FormatSummary(
        num_utterances=len(outcomes),
        num_kept=sum(o.rate is None for o in outcomes),
        resampled=dict(rates),
        num_mixed=sum(o.channels > 1 for o in outcomes),
        bad=bad,
        seconds=sum(o.num_samples for o in outcomes) / fs,
    )


def _tasks(
    source: Path,
    target: Path,
    tables: dict[str, data_dir.Table],
    fs: int,
    audio_format: str,
    min_seconds: float,
) -> tuple[list[_Task], dict[str, str]]:
    """The work per utterance, and the utterances whose entry in wav.scp cannot be used."""
    tasks, bad = [], {}
    segments = tables.get("segments")
    for utterance in data_dir.utterances(tables):
        recording, begin, end = utterance, 0.0, None
        if segments is not None:
            recording, begin, end = data_dir.parse_segment(segments[utterance])
        # A folder per speaker, as one folder with every file of a large corpus is slow.
        speaker = tables["utt2spk"][utterance]
        if "/" in utterance or "/" in speaker:
            bad[utterance] = f"'/' in the utterance or its speaker ({speaker}); rename it"
            continue
        try:
            path = data_dir.audio_path(tables["wav.scp"][recording])
        except ValueError as error:
            bad[utterance] = f"{source / 'wav.scp'}: {recording}: {error}"
            continue
        file = target / "data" / speaker / f"{utterance}.{audio_format}"
        segments_file = source / "segments" if segments is not None else None
        tasks.append(_Task(utterance, path, begin, end, segments_file, file, fs, min_seconds))
    return tasks, bad
