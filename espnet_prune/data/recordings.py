"""Write the audio of a data directory: a file each, or many in numbered archives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np

from espnet_prune.data.audio import append_speech, write_speech, written_samples
from espnet_prune.data.data_dir import AUDIO_FORMATS
from espnet_prune.data.parallel import parallel_map
from espnet_prune.files.archives import entries, place_of
from espnet_prune.files.freshness import digest, drop_stale
from espnet_prune.files.writing import write_file

#: Recordings in an archive at most. Where one of them is to be another, all of these are written
#: anew; so many of 15 s are some 100 MB.
PER_ARCHIVE = 500


@dataclass(frozen=True)
class Job:
    """A recording to write: its name and the folder of a file of its own, "" for none."""

    key: str
    folder: str


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    key: str
    path: Path | None = None  # a file, or a place in an archive
    num_samples: int = 0
    rate: int | None = None  # of what it was made from; None where an earlier run wrote it
    fault: str = ""


SomeJob = TypeVar("SomeJob", bound=Job)
#: Samples, and the rate of what they were made from; OSError and ValueError are the job's fault.
Make = Callable[[SomeJob], tuple[np.ndarray, int]]


def write_all(
    target: Path,
    jobs: Sequence[SomeJob],
    made_of: Mapping[str, str],
    make: Make,
    *,
    fs: int,
    audio_format: str,
    num_workers: int,
    title: str,
) -> Iterator[Outcome]:
    """Write recordings below ``target``/data and tell what became of each, in their order.

    What an earlier run wrote is kept where it is made of the same, see `drop_stale`; else wav.scp,
    which tells where things were, is removed first.

    Args:
        made_of: name of a job -> digest of its inputs and options; none where an input is missing.
        make: (T,) float samples in [-1, 1] at ``fs`` Hz of a job, and the rate they had before.
        audio_format: one of `AUDIO_FORMATS`.
    """
    groups: dict[str, Sequence[SomeJob]] = {}
    if audio_format.endswith(".ark"):
        for number, start in enumerate(range(0, len(jobs), PER_ARCHIVE), 1):
            groups[f"data/{number:06d}.{audio_format}"] = jobs[start : start + PER_ARCHIVE]
        inputs = {
            name: digest(f"{job.key} {made_of.get(job.key)}" for job in group)
            for name, group in groups.items()
        }
        write = _write_archive
    else:
        groups = {
            str(PurePath("data", job.folder, f"{job.key}.{audio_format}")): [job] for job in jobs
        }
        inputs = {name: made_of[job.key] for name, (job,) in groups.items() if job.key in made_of}
        write = _write_alone
    if drop_stale(target, inputs):
        (target / "wav.scp").unlink(missing_ok=True)
    items = [(target / name, group) for name, group in groups.items()]
    for outcomes in parallel_map(partial(write, make, fs), items, num_workers, title):
        yield from outcomes


def audio_format_of(path: Path) -> str:
    """How a formatted data directory was written, by one of its recordings."""
    place, begin = place_of(path)
    if begin is None:
        return place.suffix[1:]
    return next((kind for kind in AUDIO_FORMATS if place.name.endswith(f".{kind}")), "flac.ark")


def _write_alone(make: Make, fs: int, item: tuple[Path, Sequence[Job]]) -> list[Outcome]:
    path, (job,) = item
    kept = written_samples(path, fs)
    if kept is not None:
        return [Outcome(job.key, path, kept)]
    made = _made(make, job)
    if isinstance(made, Outcome):
        return [made]
    samples, rate = made
    write_speech(path, samples, fs)  # a full disk is no fault of the recording
    return [Outcome(job.key, path, len(samples), rate)]


def _write_archive(make: Make, fs: int, item: tuple[Path, Sequence[Job]]) -> list[Outcome]:
    path, jobs = item
    outcomes = _kept(path, jobs, fs)
    if outcomes:  # what is not in it had a fault, and has it still
        for job in jobs:
            if job.key not in outcomes:
                made = _made(make, job)
                if not isinstance(made, Outcome):
                    break
                outcomes[job.key] = made
        else:
            return [outcomes[job.key] for job in jobs]
    outcomes = {}
    kind = path.suffixes[-2][1:]

    def write(place: Path) -> None:
        with place.open("wb") as file:
            for job in jobs:
                made = _made(make, job)
                if not isinstance(made, Outcome):
                    samples, rate = made
                    begin = append_speech(file, job.key, samples, fs, kind)
                    made = Outcome(job.key, Path(f"{path}:{begin}"), len(samples), rate)
                outcomes[job.key] = made

    write_file(path, write)
    return [outcomes[job.key] for job in jobs]


def _made(make: Make, job: Job) -> tuple[np.ndarray, int] | Outcome:
    """What a job makes, or its fault."""
    try:
        return make(job)
    except (OSError, ValueError) as error:
        return Outcome(job.key, fault=str(error))


def _kept(path: Path, jobs: Sequence[Job], fs: int) -> dict[str, Outcome]:
    """What a whole archive of an earlier run holds, by name; else nothing."""
    try:
        places = {key: Path(f"{path}:{begin}") for key, begin in entries(path)}
    except (OSError, ValueError):
        return {}
    samples = {key: written_samples(place, fs) for key, place in places.items()}
    if None in samples.values() or samples.keys() - {job.key for job in jobs}:
        return {}
    return {key: Outcome(key, place, samples[key] or 0) for key, place in places.items()}
