"""Format the audio of a data directory: one rate, one channel, 16 bit, a recording an utterance."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from espnet_prune.data import data_dir
from espnet_prune.data.audio import SAMPLING_RATE, at_rate, read_speech
from espnet_prune.data.commands import Command
from espnet_prune.data.recordings import Job, Outcome, write_all
from espnet_prune.files.archives import place_of
from espnet_prune.files.freshness import code_of, digest, stamp
from espnet_prune.files.writing import write_text


@dataclass(frozen=True)
class _Task(Job):
    source: Path | Command
    begin: float
    end: float | None


def _format_one(fs: int, min_seconds: float, task: _Task) -> tuple[np.ndarray, int]:
    samples, rate = read_speech(task.source, task.begin, task.end)
    return at_rate(samples, rate, str(task.source), fs, min_seconds), rate


def format_wav(
    source: str | Path,
    target: str | Path,
    *,
    fs: int = SAMPLING_RATE,
    audio_format: str = "flac",
    min_seconds: float = 0.1,
    skip_bad: bool = False,
    allow_commands: bool = False,
    num_workers: int = 1,
) -> list[str]:
    """Write a data directory whose audio is one 16 bit mono recording per utterance at ``fs`` Hz.

    Recordings at another rate are resampled, segments cut out; several channels are a fault. Files
    that an earlier run wrote are kept unless their recording, an option or the code is another; an
    archive, unless that is so for one of its recordings. ``target`` gets wav.scp (absolute paths;
    ARCHIVE:BYTE, which ESPnet reads as kaldi_ark, not sound), utt2num_samples, feats_type and the
    other tables of ``source``.

    Args:
        audio_format: one of `data_dir.AUDIO_FORMATS`.
        min_seconds: shorter utterances are bad.
        skip_bad: drop bad utterances and list them in ``bad_utts`` instead of failing.
        allow_commands: run the commands that wav.scp has, with bash, for the audio they print; a
            bad one is a bad utterance.

    Returns: what was done, in lines.

    Raises:
        FileNotFoundError, ValueError: ``source`` is not a valid data directory, an option is out
            of range, no utterance is good, or some are bad (one line each) without ``skip_bad``.
    """
    source, target = Path(source), Path(target)
    if audio_format not in data_dir.AUDIO_FORMATS:
        known = ", ".join(data_dir.AUDIO_FORMATS)
        raise ValueError(f"--audio_format {audio_format}: one of {known}")
    if fs < 1:
        raise ValueError(f"--fs {fs}: a positive sampling rate in Hz is wanted")
    tables = data_dir.read_source(source, target, check_audio=False)
    tasks, bad = _tasks(source, tables, allow_commands)
    code = ("data/audio.py", "files/archives.py", "data/formatting.py", "data/recordings.py")
    made_with = fs, min_seconds, code_of(*code)
    made_of = {
        task.key: digest([marks, task.begin, task.end, *made_with])
        for task in tasks
        if (marks := _marks(task.source))
    }
    options = {"fs": fs, "audio_format": audio_format, "num_workers": num_workers}
    make, title = partial(_format_one, fs, min_seconds), f"format {target.name}"
    everything = list(write_all(target, tasks, made_of, make, **options, title=title))
    bad |= {outcome.key: outcome.fault for outcome in everything if outcome.fault}
    outcomes = [outcome for outcome in everything if not outcome.fault]
    if bad and not skip_bad:
        lines = [f"{utterance}: {fault}" for utterance, fault in sorted(bad.items())]
        number = f"{len(bad)} of {len(bad) + len(outcomes)} utterances are bad"
        advice = "mend them, or give --skip_bad true to leave them out"
        raise ValueError("\n".join([*lines, f"{source}: {number}; {advice}"]))
    if bad:
        data_dir.write_table(target / "bad_utts", bad)
    else:
        (target / "bad_utts").unlink(missing_ok=True)
    if not outcomes:
        raise ValueError(f"{source}: all {len(bad)} utterances are bad, see {target / 'bad_utts'}")
    chosen = data_dir.select(tables, [outcome.key for outcome in outcomes])
    chosen.pop("segments", None)
    chosen["wav.scp"] = {o.key: str(o.path.resolve()) for o in outcomes}
    chosen["utt2num_samples"] = {o.key: str(o.num_samples) for o in outcomes}
    write_text(target / "feats_type", "raw\n")
    data_dir.write_dir(target, chosen)
    return [f"{target}: {line}" for line in _summary(outcomes, len(bad), fs)]


def _marks(source: Path | Command) -> str:
    """What tells a source from another one of its name; nothing where there is none."""
    if isinstance(source, Command):
        return source.stamp()
    return stamp(source) if os.path.isfile(place_of(source)[0]) else ""


def _summary(outcomes: list[Outcome], num_bad: int, fs: int) -> list[str]:
    minutes = sum(outcome.num_samples for outcome in outcomes) / fs / 60
    kept = sum(outcome.rate is None for outcome in outcomes)
    number = f"{len(outcomes)} utterances, {minutes:.1f} minutes"
    lines = [f"{number} ({kept} of them written by an earlier run)"]
    rates = Counter(outcome.rate for outcome in outcomes if outcome.rate not in (None, fs))
    for rate, resampled in sorted(rates.items()):
        lines.append(f"{resampled} utterances resampled from {rate} Hz")
    if num_bad:
        lines.append(f"{num_bad} bad utterances dropped, see bad_utts")
    return lines


def _tasks(
    source: Path, tables: dict[str, data_dir.Table], allow_commands: bool
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
        try:
            data_dir.file_name(utterance), data_dir.file_name(speaker)
        except ValueError as error:
            bad[utterance] = f"{source / 'utt2spk'}: {error}"
            continue
        value = tables["wav.scp"][recording]
        try:
            path: Path | Command = data_dir.audio_path(value)
        except ValueError as error:
            command = value.removesuffix("|").strip()
            if not (allow_commands and value.endswith("|") and command):
                bad[utterance] = f"{source / 'wav.scp'}: {recording}: {error}"
                continue
            path = Command(command)
        tasks.append(_Task(utterance, speaker, path, begin, end))
    return tasks, bad
