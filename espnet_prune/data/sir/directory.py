"""Data directories for SIR: items spoken or recorded, segments to check, and parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from espnet_prune.data.audio import length_of
from espnet_prune.data.data_dir import (
    claim,
    read_table,
    remove_dir,
    require_ours,
    write_dir,
    write_table,
)
from espnet_prune.data.formatting import format_wav
from espnet_prune.data.sir.items import SirItem, read_items
from espnet_prune.data.sir.questions import located, write_questions
from espnet_prune.data.sir.speech import write_data_dir
from espnet_prune.data.voices import NATURAL_SPEAKERS, Voices
from espnet_prune.files.freshness import digest
from espnet_prune.files.reading import parse_json

#: tables with a line for each recording
TABLES = ("wav.scp", "text", "utt2spk", "utt2num_samples", "questions", "sentences")
#: longest segment for Whisper, in seconds
SEGMENT_SECONDS = 28.0


def make_data_dir(
    items: Sequence[Path],
    output_dir: Path,
    voices: Sequence[str] | None,
    work: Path,
    audio_dir: Path | None,
    part_of: Path | None,
    first: int | None,
    nj: int,
) -> str:
    """The data directory of the items of some files: spoken, recorded, or a part of another one.

    Arguments are the options of `espnet-prune sir data`. Returns what was made, in words.
    """
    found = read_all_items(items, keys=audio_dir is None and part_of is None)
    if first is not None:
        if first < 1:
            raise ValueError(f"--first is {first}; give 1 or more")
        found = spread(found, first)
    made = f"{output_dir}: {len(found)} items"
    if part_of is not None:
        write_part(part_of, output_dir, [item.id for item in found])
        return f"{made} of {part_of}"
    if audio_dir is not None:
        write_recorded_dir(found, audio_dir, output_dir, nj)
        return made
    speak, voices = Voices(work), voices or NATURAL_SPEAKERS
    for voice in voices:  # fetches what is needed once, before there are workers
        speak("Good morning.", voice)
    seconds = write_data_dir(found, speak, voices, output_dir, nj)
    number = write_segments(output_dir, found, segments_dir(output_dir))
    return f"{made}, {seconds / 60:.1f} minutes, {number} segments to check"


def read_all_items(paths: Sequence[str | Path], keys: bool = True) -> list[SirItem]:
    """Items of several files, see `read_items`, sorted by id, which no two files may have."""
    items: dict[str, SirItem] = {}
    for path in paths:
        for item in read_items(path, keys):
            if item.id in items:
                raise ValueError(f"{path}: id '{item.id}' is in another file, too")
            items[item.id] = item
    return [items[name] for name in sorted(items)]


def spread(items: Sequence[SirItem], number: int) -> list[SirItem]:
    """So many items, evenly from all; all of them where there are fewer."""
    number = min(number, len(items))
    return [items[n * len(items) // number] for n in range(number)]


def segments_dir(directory: Path) -> Path:
    """Where recipes look for the segments of a data directory that Whisper checks."""
    return directory.with_name(directory.name + "_windows")


def write_recorded_dir(
    items: Sequence[SirItem], audio_dir: str | Path, directory: Path, nj: int = 1
) -> None:
    """A data directory from existing recordings: ID.wav or ID.flac of every item.

    They are written anew at 16 kHz (`format_wav`). There is no file `sentences`, nor segments:
    the times are not known. Those of items that were spoken there before are removed. An item
    without recording is a FileNotFoundError, one that cannot be read or ends early a ValueError.
    """
    scp = {}
    for item in items:
        files = [Path(audio_dir, item.id + suffix).resolve() for suffix in (".wav", ".flac")]
        found = [file for file in files if file.is_file()]
        if not found:
            raise FileNotFoundError(f"{files[0]}: no such file, nor {files[1].name}")
        length_of(found[0])
        scp[item.id] = found[0]
    text = {item.id: item.transcript for item in items}
    raw = directory.with_name(directory.name + "_raw")
    write_dir(raw, {"wav.scp": scp, "text": text, "utt2spk": {name: name for name in scp}})
    format_wav(raw, directory, num_workers=nj)
    (directory / "sentences").unlink(missing_ok=True)
    remove_dir(segments_dir(directory))
    write_questions(directory / "questions", items)


def data_mark(data_dir: Path) -> str:
    """Digest of the tables of a data directory that answers depend on."""
    tables = [data_dir / name for name in ("wav.scp", "questions", "text", "utt2num_samples")]
    return digest(each for path in tables if path.is_file() for each in (path.name, path))[:16]


def write_part(source: str | Path, target: str | Path, keep: Iterable[str]) -> None:
    """A data directory with some of the recordings of another one, which has the segments, too."""
    source, target, keep = Path(source), Path(target), sorted(keep)
    require_ours(target)
    claim(target)
    remove_dir(segments_dir(target))
    for name in TABLES:
        if not (source / name).is_file():
            (target / name).unlink(missing_ok=True)
            continue
        table = read_table(source / name)
        missing = [key for key in keep if key not in table]
        if missing:
            raise ValueError(f"{source / name}: {missing[0]} is not there")
        write_table(target / name, {key: table[key] for key in keep})


def write_segments(
    source: Path, items: Sequence[SirItem], target: Path, longest: float = SEGMENT_SECONDS
) -> int:
    """Whole sentences of at most `longest` seconds together, as segments with their texts.

    Args:
        source: data directory with wav.scp and sentences of the items.
        target: data directory to write.
    Returns: number of segments. A longer sentence is a segment of its own.
    """
    scp, times = (read_table(Path(source) / name) for name in ("wav.scp", "sentences"))
    segments, text, speakers = {}, {}, {}
    for item in items:
        with located(f"{source / 'sentences'}: {item.id}"):
            spans = parse_json(times[item.id])["sentences"]
        for n, (first, end) in enumerate(group_sentences(spans, longest)):
            name = f"{item.id}-{n:02d}"
            segments[name] = f"{item.id} {spans[first][0]:.4f} {spans[end - 1][1]:.4f}"
            text[name] = " ".join(sentence for _, sentence in item.sentences[first:end])
            speakers[name] = item.id
    recordings = {item.id: scp[item.id] for item in items}
    tables = {"wav.scp": recordings, "segments": segments, "text": text, "utt2spk": speakers}
    write_dir(target, tables)
    return len(segments)


def group_sentences(spans: Sequence[Sequence[float]], longest: float) -> list[tuple[int, int]]:
    """Numbers of neighbouring sentences, [first, last + 1), that last no longer than `longest`."""
    found: list[tuple[int, int]] = []
    first = 0
    for n in range(1, len(spans) + 1):
        if n == len(spans) or spans[n][1] - spans[first][0] > longest:
            found.append((first, n))
            first = n
    return found
