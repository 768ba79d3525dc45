"""Pack utterances into windows: Whisper's encoder always computes on 30 s, however short the
utterance, so distillation on packed windows costs a tenth of that on single prompts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from espnet_prune.data import data_dir
from espnet_prune.data.audio import length_of, read_speech
from espnet_prune.data.recordings import Job, audio_format_of, write_all
from espnet_prune.files.freshness import code_of, digest, stamp
from espnet_prune.files.writing import write_text

# Windows kept open for more: 16 fill as well as all (210 windows for the voice prompts, against
# 231 with one), and the search stays short for a large corpus.
_OPEN_WINDOWS = 16


@dataclass(frozen=True)
class Part:
    """``num_samples`` of an utterance from its sample ``begin``, at ``offset`` in a window.

    The table utt2parts has those of a window, with spaces between.
    """

    utterance: str
    offset: int
    begin: int
    num_samples: int

    def __str__(self) -> str:
        return f"{self.utterance},{self.offset},{self.begin},{self.num_samples}"


def plan_windows(
    num_samples: dict[str, int], window: int, gap: int, seed: int = 0, min_fill: int | None = None
) -> list[list[Part]]:
    """Place every utterance into windows of at most ``window`` samples, ``gap`` samples apart.

    With ``min_fill`` below ``window`` every window has a room of its own between the two, spread
    evenly: a model that hears padded windows at test time should hear some in training.

    Greedy: in the order of a hash of seed and utterance, which mixes speakers and languages, each
    goes into the first of the open windows that has room. An utterance longer than a window is
    cut into equal pieces.

    Raises:
        ValueError: an utterance, the window or the gap has an impossible length.
    """
    if window < 1 or gap < 0:
        raise ValueError(f"a window of {window} and a gap of {gap} samples: nothing can be packed")
    min_fill = window if min_fill is None else min_fill
    if not 1 <= min_fill <= window:
        raise ValueError(f"min_fill is {min_fill} samples, but has to be in 1 to {window}")
    windows: list[list[Part]] = []
    rooms: dict[int, int] = {}  # by the identity of an open window
    open_windows: list[list[Part]] = []
    for utterance in data_dir.drawn(num_samples, seed=seed):
        total = num_samples[utterance]
        if total < 1:
            raise ValueError(f"{utterance}: has {total} samples")
        pieces = -(-total // window)
        bounds = [total * piece // pieces for piece in range(pieces + 1)]
        for begin, end in pairwise(bounds):
            length = end - begin
            fits = (w for w in open_windows if _filled(w) + gap + length <= rooms[id(w)])
            chosen = next(fits, None)
            if chosen is None:
                chosen = []
                share = int(data_dir.hash_key(str(len(windows)), seed)[:8], 16) / 2**32
                rooms[id(chosen)] = min_fill + round(share * (window - min_fill))
                windows.append(chosen)
                open_windows.append(chosen)
            offset = _filled(chosen) + gap if chosen else 0
            chosen.append(Part(utterance, offset, begin, length))
            if len(open_windows) > _OPEN_WINDOWS:
                open_windows.remove(max(open_windows, key=_filled))
    return windows


def _filled(parts: list[Part]) -> int:
    return parts[-1].offset + parts[-1].num_samples


@dataclass(frozen=True)
class _Task(Job):
    """A window to write: its parts and the audio of their utterances."""

    parts: list[Part]
    sources: dict[str, Path]
    fs: int

    def plan(self) -> str:
        return " ".join(map(str, self.parts))


def _window_of(task: _Task) -> tuple[np.ndarray, int]:
    samples = np.zeros(_filled(task.parts), dtype=np.float32)
    for part in task.parts:
        path = task.sources[part.utterance]
        speech, rate = read_speech(path)
        piece = speech[part.begin : part.begin + part.num_samples]
        if rate != task.fs or len(piece) != part.num_samples:
            found = f"{len(speech)} samples at {rate} Hz"
            text = f"do not agree with utt2num_samples and {task.fs} Hz; run `data format` again"
            raise ValueError(f"{path}: {found} {text}")
        samples[part.offset : part.offset + part.num_samples] = piece
    return samples, task.fs


def pack(
    source: str | Path,
    target: str | Path,
    *,
    window: float = 30.0,
    gap: float = 0.3,
    seed: int = 0,
    min_fill: float | None = None,
    num_workers: int = 1,
) -> list[str]:
    """Pack the utterances of a formatted data directory into windows of audio.

    ``target`` becomes a data directory whose utterances are the windows (each its own speaker, no
    text), written as those of ``source`` are, and ``utt2parts`` tells what is in them: per part
    ``utterance,offset,begin,num_samples``, that is, ``num_samples`` samples of the utterance from
    its sample ``begin`` stand at sample ``offset`` of the window. Windows that an earlier run wrote
    are kept.

    Args:
        source: data directory written by `format_wav`.
        window: longest window in seconds.
        gap: silence between two parts in seconds.
        seed: seed of the order.
        min_fill: least room of a window in seconds, see `plan_windows`; all of it when absent.

    Returns: what was done, in a line.

    Raises:
        FileNotFoundError, ValueError: ``source`` is not a formatted data directory, or its audio
            does not agree with its utt2num_samples.
    """
    source, target = Path(source), Path(target)
    tables = data_dir.read_source(source, target)
    if "utt2num_samples" not in tables or "segments" in tables:
        raise ValueError(f"{source}: is not formatted; run `data format` on it first")
    paths = {key: Path(value) for key, value in tables["wav.scp"].items()}
    first = next(iter(paths.values()))
    _, fs = length_of(first)
    num_samples = {key: int(value) for key, value in tables["utt2num_samples"].items()}
    least = None if min_fill is None else round(min_fill * fs)
    windows = plan_windows(num_samples, round(window * fs), round(gap * fs), seed, least)
    tasks = []
    for number, parts in enumerate(windows, 1):
        name = f"{source.name}-{number:06d}"
        sources = {part.utterance: paths[part.utterance] for part in parts}
        tasks.append(_Task(name, "", parts, sources, fs))
    code = ("data/audio.py", "files/archives.py", "data/packing.py", "data/recordings.py")
    made_of = {
        task.key: digest([task.plan(), *map(stamp, task.sources.values()), fs, code_of(*code)])
        for task in tasks
    }
    # of one format, as ESPnet reads them in one way
    options = {"fs": fs, "audio_format": audio_format_of(first), "num_workers": num_workers}
    outcomes = []
    for outcome in write_all(
        target, tasks, made_of, _window_of, **options, title=f"pack {target.name}"
    ):
        if outcome.fault:
            raise ValueError(outcome.fault)
        outcomes.append(outcome)
    packed = {
        "utt2num_samples": {outcome.key: outcome.num_samples for outcome in outcomes},
        "utt2parts": {task.key: task.plan() for task in tasks},
        "utt2spk": {task.key: task.key for task in tasks},
        "wav.scp": {outcome.key: str(outcome.path.resolve()) for outcome in outcomes},
    }
    write_text(target / "feats_type", "raw\n")
    data_dir.write_dir(target, packed)
    seconds = sum(num_samples.values()) / fs
    speech = f"{len(num_samples)} utterances, {seconds / 60:.1f} minutes"
    share = f"{100 * seconds / (len(windows) * window):.0f}% of them speech"
    return [f"{target}: {speech}, in {len(windows)} windows, {share}"]
