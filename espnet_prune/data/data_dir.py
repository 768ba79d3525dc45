"""Kaldi-style data directories: read, write, validate, fix, subset, combine, split.

A data directory holds small tables, one ``key value`` a line, sorted by key:

    wav.scp          recording (or utterance) -> path of its audio, or archive:byte (Kaldi's)
    segments         utterance -> recording, begin and end in seconds (optional)
    text             utterance -> transcript (absent where a set has no transcripts)
    utt2spk          utterance -> speaker
    spk2utt          speaker -> its utterances (always derived from utt2spk)
    utt2num_samples  utterance -> number of samples (written by `data format`)
    utt2*            any other table by utterance is carried along

Without ``segments`` a key of wav.scp is an utterance.

Directories that are written here have a hidden mark; only they are written anew.

A directory or a table that is absent raises FileNotFoundError. ValueError is raised by a table that
is not UTF-8 text, or has an empty line, one key twice or a malformed value.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise, product
from pathlib import Path
from typing import TypeVar

from espnet_prune.files.archives import place_of
from espnet_prune.files.freshness import MADE_OF
from espnet_prune.files.reading import read_lines, read_text
from espnet_prune.files.writing import write_text

Table = dict[str, str]
Item = TypeVar("Item")

#: how `data format` writes audio: a file each, or archives as ESPnet reads them (kaldi_ark)
AUDIO_FORMATS = ("flac", "wav", "flac.ark", "wav.ark")
#: file of a directory that was written here, and so may be written anew
MARK = ".espnet_prune"
#: longest name of an utterance or a speaker that becomes a file's, in bytes; systems take 255
LONGEST_NAME = 200
#: what mends a data directory
FIX = "run espnet-prune data fix"
_COUNT = re.compile("[1-9][0-9]{0,11}")
# Commands that only read one file soundfile can read itself; all others are refused.
_READ_COMMAND = re.compile(
    r"(?:cat|flac(?:\s+-[cds]+|\s+--(?:decode|stdout|silent))+)\s+(?!-)(\S+)\s*\|"
)


def read_table(path: str | Path) -> Table:
    """Read ``key value`` lines into a dict, in the order of the file."""
    table: Table = {}
    for number, (key, value) in enumerate(_read_rows(path), 1):
        if key in table:
            raise ValueError(f"{path}: line {number}: {key} is there twice; keep one of the lines")
        table[key] = value
    return table


def optional_table(path: str | Path) -> Table:
    """As `read_table`; empty where the file is absent."""
    return read_table(path) if Path(path).is_file() else {}


def read_scp(path: str | Path) -> Table:
    """A wav.scp in which each recording is an utterance (ValueError: there are segments beside)."""
    segments = Path(path).with_name("segments")
    if segments.is_file():
        text = "whole recordings are read here; cut them by `espnet-prune data format` first"
        raise ValueError(f"{segments}: {text}")
    table = read_table(path)
    parsed(path, table, audio_path)
    return table


def read_counts(path: str | Path) -> dict[str, int]:
    """A table of positive whole numbers, as utt2num_samples is."""

    def number(value: str) -> int:
        if not _COUNT.fullmatch(value):
            raise ValueError(f"'{value[:40]}' is not a positive whole number")
        return int(value)

    return parsed(path, read_table(path), number)


def parsed(path: str | Path, table: Table, parse: Callable[[str], Item]) -> dict[str, Item]:
    """What a function makes of the values of a table; its ValueError is told with file and key."""
    found = {}
    for key, value in table.items():
        try:
            found[key] = parse(value)
        except ValueError as error:
            raise ValueError(f"{path}: {key}: {error}") from None
    return found


def file_name(name: str) -> str:
    """The name of an utterance or a speaker, where a file or folder gets it (ValueError: it cannot
    be one, or would be somewhere else)."""
    size = len(name.encode())
    if size > LONGEST_NAME:
        text = f"has {size} bytes, but {LONGEST_NAME} are the most for a file's name; rename it"
        raise ValueError(f"'{name[:20]}…' {text}")
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"'{name}' cannot be the name of a file; rename it")
    return name


def _read_rows(path: str | Path) -> list[tuple[str, str]]:
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split(maxsplit=1)
        if not fields:
            raise ValueError(f"{path}: line {number} is empty; remove it")
        rows.append((fields[0], fields[1].strip() if len(fields) == 2 else ""))
    return rows


def write_table(path: str | Path, table: Mapping[str, object]) -> None:
    """Write a table sorted by key (in the C locale's order, which is Python's for UTF-8)."""
    lines = [f"{key} {table[key]}".rstrip() for key in sorted(table)]
    for key, line in zip(sorted(table), lines, strict=True):
        if line.split(maxsplit=1)[:1] != [key] or "\n" in line or "\r" in line:
            raise ValueError(f"{path}: {key!r}: blanks in the name, or line breaks in the value")
    write_text(path, "".join(f"{line}\n" for line in lines))


def table_names(data_dir: str | Path) -> list[str]:
    """The names of the tables in a data directory that are there, without spk2utt."""
    folder = Path(data_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such data directory")
    fixed = [name for name in ("wav.scp", "segments", "text") if (folder / name).is_file()]
    return fixed + sorted(path.name for path in folder.glob("utt2*") if path.is_file())


def read_dir(data_dir: str | Path) -> dict[str, Table]:
    """Read all tables of a data directory, by name, except the derived spk2utt."""
    tables = {name: read_table(Path(data_dir) / name) for name in _needed_names(data_dir)}
    parsed(Path(data_dir) / "segments", tables.get("segments", {}), parse_segment)
    return tables


def _needed_names(data_dir: str | Path) -> list[str]:
    """`table_names`, among which wav.scp and utt2spk have to be."""
    names = table_names(data_dir)
    for name in ("wav.scp", "utt2spk"):
        if name not in names:
            raise FileNotFoundError(f"{Path(data_dir) / name}: no such file")
    return names


def read_source(
    source: str | Path, target: str | Path, *, check_audio: bool = True
) -> dict[str, Table]:
    """Read all tables of a data directory that another one is made from.

    It has to be valid (see `validate`), and another directory than ``target``, which is claimed.
    """
    require_apart(source, target)
    require_ours(target)
    errors = validate(source, need_text=False, check_audio=check_audio)
    if errors:
        more = f" (and {len(errors) - 1} more faults, see validate)" if len(errors) > 1 else ""
        raise ValueError(errors[0] + more)
    tables = read_dir(source)
    claim(target)
    return tables


def require_apart(source: str | Path, target: str | Path) -> None:
    """Check that two directories are not the same one (ValueError: they are)."""
    if Path(source).resolve() == Path(target).resolve():
        raise ValueError(f"{target}: source and target are the same directory")


def require_ours(data_dir: str | Path) -> None:
    """Check that a directory is new, empty or written here (ValueError: files of others are in it).

    Directories of versions without the mark are known by what formatting noted.
    """
    folder = Path(data_dir)
    if not folder.is_dir() or any((folder / name).is_file() for name in (MARK, MADE_OF)):
        return
    foreign = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if foreign:
        text = (
            f"holds {foreign[0]}, which was not written here; move it away, or name a new directory"
        )
        raise ValueError(f"{folder}: {text}")


def claim(data_dir: str | Path) -> None:
    """Mark a directory as written here, so that later runs may write it anew."""
    path = Path(data_dir) / MARK
    if not path.is_file():
        write_text(path, "Written by espnet-prune, which may write all in here anew.\n")


def remove_dir(data_dir: str | Path) -> None:
    """Remove a directory of tables that was written here (ValueError: by others, or more is in it);
    nothing where there is none."""
    folder = Path(data_dir)
    if not folder.is_dir():
        return
    require_ours(folder)
    others = {path.name for path in folder.iterdir()} - {*table_names(folder), "spk2utt", MARK}
    if others:
        text = f"holds {min(others)}, which was not written here; move it away, or name another"
        raise ValueError(f"{folder}: {text}")
    shutil.rmtree(folder)


def write_dir(data_dir: str | Path, tables: Mapping[str, Mapping[str, object]]) -> None:
    """Write the tables and spk2utt; a table of an earlier run that is not given is removed.

    Tables of others are not touched (ValueError). wav.scp is written last, so a directory that has
    it is whole.
    """
    folder = Path(data_dir)
    if folder.is_dir() and table_names(folder):
        require_ours(folder)
    claim(folder)
    _write_tables(folder, tables)


def _write_tables(folder: Path, tables: Mapping[str, Mapping[str, object]]) -> None:
    for name in table_names(folder):
        if name not in tables:
            (folder / name).unlink()
    (folder / "wav.scp").unlink(missing_ok=True)
    write_table(folder / "spk2utt", speaker_utterances(tables["utt2spk"]))
    for name in sorted(tables, key=lambda name: name == "wav.scp"):
        write_table(folder / name, tables[name])


def speaker_utterances(utt2spk: Mapping[str, object]) -> Table:
    """Invert utt2spk: speaker -> its utterances, sorted, with spaces between."""
    speakers: dict[str, list[str]] = {}
    for utterance in sorted(utt2spk):
        speakers.setdefault(str(utt2spk[utterance]), []).append(utterance)
    return {speaker: " ".join(utterances) for speaker, utterances in speakers.items()}


def utterances(tables: Mapping[str, Table]) -> list[str]:
    """The sorted utterances of a data directory: the keys of segments, else of wav.scp."""
    return sorted(tables["segments"] if "segments" in tables else tables["wav.scp"])


def audio_path(value: str) -> Path:
    """The audio file a value of wav.scp names; ``ARCHIVE:BYTE`` names one in an archive.

    ``cat FILE |`` and ``flac -c -d -s FILE |`` are taken as FILE; another command, or none, is a
    ValueError.
    """
    if not value:
        raise ValueError("no path is given")
    if not value.endswith("|"):
        return Path(value)
    match = _READ_COMMAND.fullmatch(value)
    if match is None:
        advice = (
            "write its output to a file and name the file, or see `data format --allow_commands`"
        )
        raise ValueError(f"'{value}' is a command; {advice}")
    return Path(match.group(1))


def parse_segment(value: str) -> tuple[str, float, float]:
    """Read a value of segments: recording, begin and end in seconds (ValueError if it is not)."""
    try:
        recording, *times = value.split()
        begin, end = map(float, times)
        if not 0 <= begin < end < float("inf"):
            raise ValueError
    except ValueError:
        text = "is not 'recording begin end' with 0 <= begin < end, in seconds"
        raise ValueError(f"'{value[:80]}' {text}") from None
    return recording, begin, end


def _faults(name: str, table: Table, recordings: Mapping[str, str]) -> Table:
    """What is wrong with single entries of a table: key -> complaint."""
    complaints = {key: _fault(name, value, recordings) for key, value in table.items()}
    return {key: complaint for key, complaint in complaints.items() if complaint}


def _fault(name: str, value: str, recordings: Mapping[str, str]) -> str:
    try:
        if name == "wav.scp" and not os.path.isfile(place_of(audio_path(value))[0]):
            return f"the file {place_of(audio_path(value))[0]} does not exist"
        if name == "segments" and (recording := parse_segment(value)[0]) not in recordings:
            return f"its recording {recording} is not in wav.scp"
    except ValueError as error:
        return str(error)
    if name == "text" and not value:
        return "has no text"
    if name == "utt2spk" and len(value.split()) != 1:
        return f"needs one speaker, has '{value}'"
    if name == "utt2num_samples" and not _COUNT.fullmatch(value):
        return f"needs a positive number of samples, has '{value}'"
    return ""


def validate(data_dir: str | Path, need_text: bool = True, check_audio: bool = True) -> list[str]:
    """Check a data directory; returns one line per fault (none: it is valid).

    Checked: the files are there, not empty, sorted, without a key twice; each entry is well
    formed; all tables have the same utterances; spk2utt is utt2spk inverted; the audio exists.

    Args:
        need_text: whether a missing text file is a fault; one that is there is always checked.
        check_audio: whether to look for the files that wav.scp names.
    """
    folder = Path(data_dir)
    try:
        names = table_names(folder)
    except FileNotFoundError as error:
        return [str(error)]
    errors = [
        f"{folder / name}: no such file; {advice}"
        for name, advice in (
            ("wav.scp", "write one line 'utterance path' per recording"),
            ("utt2spk", "write one line 'utterance speaker' per utterance"),
            ("spk2utt", f"{FIX}, which makes it from utt2spk"),
            ("text", "add it, or say --no_text true for speech without transcripts"),
        )
        if not (folder / name).is_file() and (need_text or name != "text")
    ]
    tables: dict[str, Table] = {}
    for path in filter(Path.is_file, (folder / name for name in (*names, "spk2utt"))):
        try:
            rows = _read_rows(path)
        except ValueError as error:
            errors.append(str(error))
            continue
        if not rows:
            errors.append(f"{path}: is empty; prepare the directory again")
            continue
        errors += _order_errors(path, [key for key, _ in rows])
        tables[path.name] = dict(rows)
    spk2utt = tables.pop("spk2utt", None)
    for name, table in tables.items():
        if check_audio or name != "wav.scp":
            errors += [
                f"{folder / name}: {key}: {fault}; mend it, or {FIX} to drop it"
                for key, fault in _faults(name, table, tables.get("wav.scp", {})).items()
            ]
    errors += _agreement_errors(folder, tables)
    if spk2utt is not None and "utt2spk" in tables:
        wanted = speaker_utterances(tables["utt2spk"])
        errors += [
            f"{folder / 'spk2utt'}: {speaker}: does not agree with utt2spk; {FIX}"
            for speaker in sorted(wanted.keys() | spk2utt.keys())
            if wanted.get(speaker, "").split() != spk2utt.get(speaker, "").split()
        ]
    return errors


def _order_errors(path: Path, keys: list[str]) -> list[str]:
    errors = [
        f"{path}: {key}: is there twice; {FIX}, or keep one of the lines"
        for key, number in Counter(keys).items()
        if number > 1
    ]
    early = next((pair for pair in pairwise(keys) if pair[1] < pair[0]), None)
    if early:
        errors.append(f"{path}: {early[1]}: not sorted, comes after {early[0]}; {FIX}")
    return errors


def _agreement_errors(folder: Path, tables: Mapping[str, Table]) -> list[str]:
    base = "segments" if "segments" in tables else "wav.scp"
    if base not in tables:
        return []
    errors = []
    for name in [name for name in tables if name not in ("wav.scp", "segments")]:
        path, keys, wanted = folder / name, tables[name].keys(), tables[base].keys()
        errors += [
            f"{path}: {key}: no such utterance in {base}; {FIX} to drop it"
            for key in sorted(keys - wanted)
        ]
        errors += [
            f"{path}: {key}: is in {base} but has no line here; add it, or {FIX} to drop it"
            for key in sorted(wanted - keys)
        ]
    return errors


def fix(data_dir: str | Path) -> list[str]:
    """Mend a data directory in place and return one line per thing that was dropped.

    Sorts; drops utterances that are not in every table, whose entry is malformed, that have two
    different lines under one key, or whose audio is missing; rebuilds spk2utt. The files as they
    were go into ``.backup``. That no utterance would be left is a ValueError.
    """
    folder = Path(data_dir)
    names = _needed_names(folder)
    messages: list[str] = []
    tables: dict[str, Table] = {"wav.scp": {}}
    for name in names:
        rows = _read_rows(folder / name)
        table = dict(rows)
        # wav.scp comes first, so a segment of a dropped recording is found here
        faults = _faults(name, table, tables["wav.scp"])
        conflicting = [key for key, value in rows if table[key] != value]
        faults |= dict.fromkeys(conflicting, "has two different lines")
        messages += [f"{folder / name}: dropped {key}: {faults[key]}" for key in sorted(faults)]
        tables[name] = {key: value for key, value in table.items() if key not in faults}
    base = "segments" if "segments" in tables else "wav.scp"
    keyed = {name: table for name, table in tables.items() if name != "wav.scp" or base == name}
    keep = set.intersection(*(set(table) for table in keyed.values()))
    for name, table in keyed.items():
        for key in sorted(table.keys() - keep):
            lacking = [other for other, entries in keyed.items() if key not in entries]
            messages.append(f"{folder / name}: dropped {key}: not in {', '.join(lacking)}")
    if not keep:
        raise ValueError(f"{folder}: no utterance is good in all of {', '.join(keyed)}; redo it")
    fixed = select(tables, keep)
    if base == "segments":
        for key in sorted(tables["wav.scp"].keys() - fixed["wav.scp"].keys()):
            messages.append(f"{folder / 'wav.scp'}: dropped {key}: no utterance needs it")
    backup = folder / ".backup"
    backup.mkdir(exist_ok=True)
    for path in filter(Path.is_file, (folder / name for name in (*names, "spk2utt"))):
        shutil.copy2(path, backup)
    _write_tables(folder, fixed)
    return messages


def select(tables: Mapping[str, Table], keep: Iterable[str]) -> dict[str, Table]:
    """The tables with only the utterances ``keep``, and the recordings these need."""
    keep = set(keep)
    chosen = {
        name: {key: value for key, value in table.items() if key in keep}
        for name, table in tables.items()
    }
    if "segments" in tables:
        needed = {parse_segment(value)[0] for value in chosen["segments"].values()}
        scp = tables["wav.scp"].items()
        chosen["wav.scp"] = {key: value for key, value in scp if key in needed}
    return chosen


def subset(
    source: str | Path,
    target: str | Path,
    *,
    first: int | None = None,
    utt_list: str | Path | None = None,
    random: int | None = None,
    seed: int = 0,
) -> int:
    """Write a part of a data directory to ``target`` and return its number of utterances.

    Give exactly one of ``first`` (the first N utterances), ``utt_list`` (a file with one
    utterance, and anything after it, a line) and ``random`` (N utterances by a hash of ``seed``
    and utterance: the same whatever else is in the directory's order). An N above the number
    of utterances takes them all.

    Raises:
        ValueError: not exactly one choice, N < 1, an unknown utterance, source equals target.
    """
    if [first, utt_list, random].count(None) != 2:
        raise ValueError("subset takes exactly one of first, utt_list and random")
    require_apart(source, target)
    require_ours(target)
    tables = read_dir(source)
    keep = utterances(tables)
    if utt_list is not None:
        known, keep = set(keep), list(dict(_read_rows(utt_list)))
        for unknown in sorted(set(keep) - known):
            raise ValueError(f"{utt_list}: {unknown} is not an utterance of {source}")
        if not keep:
            raise ValueError(f"{utt_list}: is empty")
    else:
        number = random if first is None else first
        if number < 1:
            raise ValueError(f"a subset of {number} utterances is asked for; give 1 or more")
        keep = keep[:number] if random is None else drawn(keep, number, seed)
    write_dir(target, select(tables, keep))
    _carry_feats_type([Path(source)], Path(target))
    return len(keep)


def combine(target: str | Path, sources: Iterable[str | Path]) -> list[str]:
    """Write the union of data directories; returns one line per table that was left out.

    A table that is not in every source is left out.

    Raises:
        ValueError: two sources have the same utterance, or one recording with two paths; or
            some have segments and some have not.
    """
    folders = [Path(source) for source in sources]
    if not folders:
        raise ValueError("combine needs at least one source directory")
    require_ours(target)
    parts = [read_dir(folder) for folder in folders]
    with_segments = ["segments" in part for part in parts]
    if any(with_segments) and not all(with_segments):
        plain = folders[with_segments.index(False)]
        raise ValueError(f"{plain}: has no segments but others have; format all first")
    owner: dict[str, Path] = {}
    for folder, part in zip(folders, parts, strict=True):
        for utterance in utterances(part):
            if utterance in owner:
                raise ValueError(f"{utterance} is in {owner[utterance]} and in {folder}")
            owner[utterance] = folder
    common = set.intersection(*(set(part) for part in parts))
    left_out = sorted(set().union(*parts) - common)
    tables: dict[str, Table] = {name: {} for name in common}
    for (folder, part), name in product(zip(folders, parts, strict=True), common):
        for key, value in part[name].items():
            if tables[name].setdefault(key, value) != value:
                raise ValueError(f"{folder / name}: {key}: has another value in another source")
    write_dir(target, tables)
    _carry_feats_type(folders, Path(target))
    return [f"{target}: left out {name}, which not every source has" for name in left_out]


def _carry_feats_type(sources: list[Path], target: Path) -> None:
    """Copy ESPnet's feats_type where all sources have the same."""
    files = [source / "feats_type" for source in sources]
    kinds = {read_text(file) if file.is_file() else "" for file in files}
    if len(kinds) == 1 and kinds != {""}:
        write_text(target / "feats_type", kinds.pop())
    else:
        (target / "feats_type").unlink(missing_ok=True)


def split(scp: str | Path, num_parts: int, pattern: str) -> list[Path]:
    """Split a file by lines into consecutive parts whose sizes differ by one at most.

    Args:
        num_parts: number of parts N, from 1 to that of the lines.
        pattern: path of a part, with JOB for its number 1..N.
    """
    lines = [f"{key} {value}".rstrip() + "\n" for key, value in _read_rows(scp)]
    number = len(lines)
    if not 1 <= num_parts <= number:
        text = f"{number} lines cannot be split into {num_parts} parts; give 1 to {number}"
        raise ValueError(f"{scp}: {text}")
    if "JOB" not in pattern:
        raise ValueError(f"{pattern}: the name of a part needs JOB where its number goes")
    bounds = [number * part // num_parts for part in range(num_parts + 1)]
    paths = [Path(pattern.replace("JOB", str(part + 1))) for part in range(num_parts)]
    for path, (begin, end) in zip(paths, pairwise(bounds), strict=True):
        write_text(path, "".join(lines[begin:end]))
    return paths


def hash_key(name: str, seed: int = 0) -> str:
    """SHA-256 of seed and name: an order that looks random and is the same everywhere."""
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def drawn(items: Iterable[Item], number: int | None = None, seed: int = 0) -> list[Item]:
    """So many of the items, or all, in the order of `hash_key` of what they say."""
    return sorted(items, key=lambda item: hash_key(str(item), seed))[:number]
