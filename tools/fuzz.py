"""Feed every reader of the package mutated files, and see that it reads them or says what is wrong.

Each mutated file is read in a process of its own. What may happen: it is read, or the reader raises
an error that a user can mend (ValueError, OSError) whose text has the name of the file. Faults are

    traceback  any other exception, or the end of the process by a signal
    nameless   an error without the name of the file
    hang       no end within --seconds
    growth     more than --growth MB beyond what the process had before

The same seed mutates alike. The mutated file of a fault is kept in --keep. Exit status 1 says that
there was a fault.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import kaldiio  # noqa: E402
import numpy as np  # noqa: E402
import soundfile  # noqa: E402
import torch  # noqa: E402
from torchaudio.models import wavlm_model  # noqa: E402
from transformers import WavLMConfig, WavLMModel  # noqa: E402

from espnet_prune.data.audio import load_speech  # noqa: E402
from espnet_prune.data.data_dir import read_dir, validate  # noqa: E402
from espnet_prune.data.formatting import format_wav  # noqa: E402
from espnet_prune.data.sir.items import read_items  # noqa: E402
from espnet_prune.data.sir.questions import read_questions  # noqa: E402
from espnet_prune.evaluate.sir.answers import read_answers  # noqa: E402
from espnet_prune.structured import load_encoder, slim  # noqa: E402
from espnet_prune.structured.checkpoints import import_checkpoint  # noqa: E402

FAULTS = ("traceback", "nameless", "hang", "growth")
#: in numbers: what a flipped bit, a careless script or malice writes
NUMBERS = (0, -1, 1, 2, 7, 2**31, 2**63, 10**30, -0.5, 0.5, 1e300, float("nan"), float("inf"))
TEXTS = ("", " ", "..", "/", "a/../../b", "\ufeff", "\u2028", "\0", "x" * 300, "nan", "é", "-1")


@dataclass(frozen=True)
class Target:
    """A kind of file: how a good one is made in a folder, and who reads it.

    Attributes:
        make: folder -> the file in it that is mutated.
        read: the same file -> anything; raises what the reader raises.
        change: most of the changes of such a file; the others are of bytes.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    change: Callable[[bytes, random.Random], bytes] | None = None


def hear(folder: Path) -> None:
    """Load an encoder and run it."""
    with torch.no_grad():
        load_encoder(folder)(torch.zeros(1, 3200))


def dense(folder: Path) -> Path:
    """The directory of a dense encoder."""
    config = WavLMConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=20,
        conv_dim=(12, 12, 12),
        conv_stride=(5, 4, 16),
        conv_kernel=(10, 8, 16),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
    )
    WavLMModel(config).save_pretrained(folder / "dense")
    return folder / "dense"


def pruned(folder: Path) -> Path:
    """The directory of a pruned encoder."""
    encoder = load_encoder(dense(folder))
    generator = torch.Generator().manual_seed(0)
    plan = encoder.plan()
    masks = {
        name: (torch.rand(plan.size(name), generator=generator) < 0.7).float()
        for name in plan.sites
    }
    slim(encoder, masks).save_pretrained(folder / "pruned")
    shutil.rmtree(folder / "dense")
    return folder / "pruned"


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def archive(path: Path) -> Path:
    """Of one recording, at byte 2."""
    noise = np.random.default_rng(0).integers(-3000, 3000, 8000, np.int16)
    kaldiio.save_ark(str(path), {"a": (16000, noise)}, write_function="soundfile")
    return path


def sound(path: Path) -> Path:
    soundfile.write(path, np.random.default_rng(0).normal(size=8000) * 0.1, 16000)
    return path


def tables(folder: Path, name: str) -> Path:
    sound(folder / "a.wav")
    rows = {
        "wav.scp": f"a {folder}/a.wav\nb {folder}/a.wav\n",
        "segments": "u a 0.0 0.2\nv b 0.1 0.3\n",
        "text": "u good morning\nv good night\n",
        "utt2spk": "u s\nv t\n",
        "spk2utt": "s u\nt v\n",
    }
    for table, text in rows.items():
        written(folder / table, text)
    return folder / name


def read_tables(path: Path) -> None:
    validate(path.parent)
    read_dir(path.parent)
    with tempfile.TemporaryDirectory() as target:
        format_wav(path.parent, Path(target, "out"), num_workers=1)


def item(number: int) -> str:
    row = {
        "transcript": [{"speaker": "A", "text": ["It is late.", "We go home."]}],
        "original_key_sentence": "We go home.",
        "test_question": {
            "question": "Where?",
            "choices": ["A. home", "B. away"],
            "correct_answer": "A. home",
        },
        "metadata": {"transcript_type": "talk", "id": f"item{number}"},
    }
    return json.dumps(row) + "\n"


QUESTION = json.dumps({"question": "Where?", "choices": ["home", "away"], "answer": 0})
ANSWER = {
    **{"id": "a", "input": "speech", "strategy": "none", "rate": 0.0, "keep": None},
    **{"seconds": 2.0, "audio_tokens": 50, "kept_tokens": 3, "kept": "0-2", "order": [1, 0]},
    **{"scores": [-1.0, -2.0], "chosen": 0, "answer": 1},
}
ANSWERS = "".join(f"{json.dumps(row)}\n" for row in ({"speech_llm": "x"}, ANSWER))


def saved_checkpoint(folder: Path) -> Path:
    options = {
        "extractor_mode": "group_norm",
        "extractor_conv_layer_config": [(8, 10, 5)] + [(8, 3, 2)] * 4 + [(8, 2, 2)] * 2,
        "extractor_conv_bias": False,
        "encoder_embed_dim": 16,
        "encoder_projection_dropout": 0.1,
        "encoder_pos_conv_kernel": 6,
        "encoder_pos_conv_groups": 2,
        "encoder_num_layers": 2,
        "encoder_num_heads": 4,
        "encoder_num_buckets": 8,
        "encoder_max_distance": 9,
        "encoder_attention_dropout": 0.1,
        "encoder_ff_interm_features": 20,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.1,
        "encoder_layer_norm_first": False,
        "encoder_layer_drop": 0.05,
        "aux_num_out": None,
    }
    content = {"state_dict": wavlm_model(**options).state_dict(), "config": options}
    torch.save(content, folder / "model.pt")
    return folder / "model.pt"


def mutated(data: bytes, target: Target, rng: random.Random) -> bytes:
    """The file with one to three changes."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        change = target.change if target.change and rng.random() < 0.7 else change_bytes
        data = change(data, rng)
    return data


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    # Headers are where a file says how long it is: half of the changes go there.
    place = rng.randrange(min(len(data), rng.choice((64, 4096, len(data) or 1))) or 1)
    span = rng.choice((1, 2, 4, 8, 64))
    kind = rng.randrange(8)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + data[place + span :]
    if kind == 2:
        return data[:place] + data[place : place + span] * rng.choice((2, 100)) + data[place:]
    if kind == 3:
        filler = rng.choice((b"\xff", b"\0", b"\x7f", b"9", b"[", b"\xef\xbb\xbf"))
        return data[:place] + filler * span + data[place + span :]
    if kind == 4:
        return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\xe2\x80\xa8")))
    if kind == 5:
        text = rng.choice(TEXTS).encode()
        return data[:place] + text + data[place:]
    if kind == 6:
        return b"\xef\xbb\xbf" + data if place % 2 else data + rng.randbytes(span)
    flipped = bytearray(data)
    for _ in range(rng.choice((1, 4, 32))):
        if flipped:
            flipped[rng.randrange(place + 1)] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def change_json(data: bytes, rng: random.Random) -> bytes:
    """Another value, or none, somewhere in the JSON of the file, or of one of its lines."""
    try:
        text = data.decode()
        lines = [text] if text.lstrip().startswith("{\n") else text.splitlines()
        at = rng.randrange(len(lines))
        head, brace, tail = lines[at].partition("{")
        row = json.loads(brace + tail)
    except (ValueError, RecursionError):
        return change_bytes(data, rng)
    places: list[tuple] = []

    def collect(value):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in list(items):
            places.append((value, key))
            if isinstance(inner, dict | list):
                collect(inner)

    collect(row)
    if not places:
        return change_bytes(data, rng)
    within, key = rng.choice(places)
    old = within[key]
    kind = rng.randrange(7)
    if kind == 0:
        del within[key]
    elif kind == 1:
        within[key] = rng.choice(NUMBERS)
    elif kind == 2:
        within[key] = rng.choice(TEXTS)
    elif kind == 3:
        within[key] = rng.choice((None, True, [], {}, [old], {"a": old}, [[]], [None] * 3))
    elif kind == 4 and isinstance(old, int | float):
        within[key] = old * rng.choice((-1, 0, 2, 1000, 10**6, 0.5)) + rng.choice((0, 1))
    elif kind == 5 and isinstance(old, list):
        within[key] = rng.choice((old[:-1], old + old, old[::-1], old * 1000))
    else:
        within[key] = "DEEP"
    lines[at] = head + json.dumps(row).replace('"DEEP"', "[" * 50000 + "]" * 50000)
    return ("\n".join(lines) + "\n").encode()


def change_safetensors(data: bytes, rng: random.Random) -> bytes:
    """A change of the header, whose length is mended."""
    size = int.from_bytes(data[:8], "little")
    header = change_json(data[8 : 8 + size], rng)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def change_zip(data: bytes, rng: random.Random) -> bytes:
    """A change of one file in a zip, whose checksum is mended."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as source:
            files = {info.filename: source.read(info) for info in source.infolist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return change_bytes(data, rng)
    name = rng.choice([name for name in files if name.endswith("data.pkl")] * 20 + list(files))
    files[name] = change_bytes(files[name], rng)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as changed:
        for name, content in files.items():
            changed.writestr(name, content)
    return target.getvalue()


TARGETS = {
    "config.json": Target(
        lambda folder: dense(folder) / "config.json", lambda path: hear(path.parent), change_json
    ),
    "pruned config.json": Target(
        lambda folder: pruned(folder) / "config.json", lambda path: hear(path.parent), change_json
    ),
    "safetensors": Target(
        lambda folder: pruned(folder) / "model.safetensors",
        lambda path: hear(path.parent),
        change_safetensors,
    ),
    "checkpoint .pt": Target(saved_checkpoint, import_checkpoint, change_zip),
    "items": Target(
        lambda folder: written(folder / "items.jsonl", item(0) + item(1)), read_items, change_json
    ),
    "questions": Target(
        lambda folder: written(folder / "questions", f"a {QUESTION}\nb {QUESTION}\n"),
        read_questions,
        change_json,
    ),
    "answers": Target(
        lambda folder: written(folder / "answers.x.jsonl", ANSWERS),
        lambda path: read_answers(path.parent),
        change_json,
    ),
    **{
        name: Target(lambda folder, name=name: tables(folder, name), read_tables)
        for name in ("wav.scp", "segments", "text", "utt2spk")
    },
    "WAV": Target(lambda folder: sound(folder / "a.wav"), load_speech),
    "FLAC": Target(lambda folder: sound(folder / "a.flac"), load_speech),
    "archive": Target(
        lambda folder: archive(folder / "a.ark"), lambda path: load_speech(f"{path}:2")
    ),
}


def read_apart(target: Target, path: Path, seconds: float, growth: float) -> tuple[str, str]:
    """Read a file in a child process: (what came of it, its words)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM ends the process
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (now + int(growth * 2**20), hard))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            came, words = _outcome(target, path)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        os.write(writing, f"{came}\n{words}".encode()[:60000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read().decode(errors="replace")
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return ("hang", "") if number == signal.SIGALRM else ("traceback", f"signal {number}")
    came, _, words = told.partition("\n")
    return came, words


def _outcome(target: Target, path: Path) -> tuple[str, str]:
    try:
        target.read(path)
    except (OSError, ValueError) as error:
        words = str(error)
        if isinstance(error, OSError) and error.filename:
            words += str(error.filename)
        if "alloc" in words and "memory" in words:
            return "growth", words
        named = path.name in words or str(path.parent) in words
        return ("refused" if named else "nameless"), f"{type(error).__name__}: {error}"
    except MemoryError:
        return "growth", traceback.format_exc()
    except BaseException:
        words = traceback.format_exc()
        return ("growth" if "allocate" in words else "traceback"), words
    return "read", ""


def fuzz(
    names: list[str], count: int, seed: int, seconds: float, growth: float, keep: Path | None
) -> dict[str, Counter]:
    """Outcomes of `count` mutated files, the kinds of files in turn."""
    from tqdm import tqdm

    results = {name: Counter() for name in names}
    words: set[tuple] = set()
    with tempfile.TemporaryDirectory() as work:
        good = {}
        for number, name in enumerate(names):
            folder = Path(work, str(number))
            folder.mkdir()
            path = TARGETS[name].make(folder)
            good[name] = path, path.read_bytes()
            came, told = read_apart(TARGETS[name], path, seconds, growth)
            if came != "read":
                raise RuntimeError(f"{name}: the file as it was made is not read: {told}")
        for n in tqdm(range(count), unit="file", mininterval=5, leave=False):
            name = names[n % len(names)]
            path, data = good[name]
            rng = random.Random(f"{seed} {name} {n}")
            path.write_bytes(mutated(data, TARGETS[name], rng))
            came, told = read_apart(TARGETS[name], path, seconds, growth)
            results[name][came] += 1
            if came in FAULTS:
                told = told.strip()
                key = (name, came, told[-60:])
                if key not in words:  # each fault once
                    words.add(key)
                    print(f"{came}: {name}, file {n}: {told}", file=sys.stderr)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, keep / f"{n}_{name.replace(' ', '_')}")
            path.write_bytes(data)
    return results


def table(results: dict[str, Counter]) -> str:
    """A row for each kind of file."""
    columns = ("read", "refused", *FAULTS)
    total = sum(results.values(), Counter())
    width = max(map(len, results))
    lines = [f"{'file':{width}}  " + "  ".join(columns)]
    for name, counts in {**results, "all": total}.items():
        cells = (f"{counts[column]:{len(column)}}" for column in columns)
        lines.append(f"{name:{width}}  " + "  ".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000, help="mutated files (default 2000)")
    parser.add_argument("--seed", type=int, default=0, help="(default 0)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a file (default 10)")
    parser.add_argument("--growth", type=float, default=1024, help="MB (default 1024)")
    parser.add_argument("--keep", type=Path, help="folder for the files of faults")
    parser.add_argument("--only", nargs="+", choices=TARGETS, help="kinds of files (default all)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.time()
    results = fuzz(
        args.only or list(TARGETS), args.count, args.seed, args.seconds, args.growth, args.keep
    )
    print(table(results))
    print(f"{args.count} files in {time.time() - begin:.0f} s, seed {args.seed}")
    sys.exit(any(counts[fault] for counts in results.values() for fault in FAULTS))


if __name__ == "__main__":
    main()
