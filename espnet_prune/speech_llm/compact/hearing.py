"""What LoRA's training reads: the words of Whisper's ear in time, made once.

Excerpts (`excerpts`) are heard in recordings of several each, as a model is given them in use.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_prune.data.audio import SAMPLING_RATE, load_speech
from espnet_prune.data.data_dir import audio_path, file_name, read_scp, read_table, write_table
from espnet_prune.data.parallel import parallel_map
from espnet_prune.data.sir.questions import read_questions
from espnet_prune.files.freshness import code_of, digest, drop_stale, stamp
from espnet_prune.files.writing import write_file
from espnet_prune.speech_llm.compact.ear import Ear, pieces
from espnet_prune.speech_llm.compact.model import (
    SEPARATOR,
    TOKEN_SAMPLES,
    TRANSCRIBE,
    ask,
    check_frames,
    ids_in_time,
    load_tokenizer,
)

#: recordings that are heard at once: a step of the decoder costs little more for many
BATCH = 8


def write_heard(
    whisper: Path,
    encoder: Path | None,
    language_model: Path,
    data_dir: Path,
    output_dir: Path,
    seconds: float,
    seed: int,
    nj: int,
    ngpu: int,
) -> str:
    """Hear the excerpts of a data directory, and write what training reads.

    Arguments are the options of `espnet-prune compact hear`, whose help says what is written.
    Returns that in words (ValueError: no token fits `seconds`, or no excerpt has a text).
    """
    most = int(seconds * SAMPLING_RATE) // TOKEN_SAMPLES * TOKEN_SAMPLES
    if most < TOKEN_SAMPLES:
        raise ValueError(f"--seconds is {seconds:g}, shorter than an audio token; give more")
    models = Models(whisper, encoder, language_model, "cuda" if ngpu else "cpu")
    models.load()  # says what is wrong with them before there are workers
    scp, text = read_scp(data_dir / "wav.scp"), read_table(data_dir / "text")
    samples = {name: int(n) for name, n in read_table(data_dir / "utt2num_samples").items()}
    groups = {group[0]: group for group in recordings(samples, most, seed)}
    folder = output_dir / "tokens"
    folder.mkdir(parents=True, exist_ok=True)
    code = code_of("data/audio.py", "files/archives.py", "speech_llm/compact", "structured")
    rows = {name: folder / f"{file_name(name)}.npy" for name in groups}
    audio = {name: [scp[n] for n in group] for name, group in groups.items()}
    files = (sorted(p.glob("*")) for p in (whisper, encoder, language_model) if p is not None)
    mark = digest([code, *(file for found in files for file in found if file.is_file())])
    made_of = {
        rows[name].name: digest([*(stamp(audio_path(of)) for of in audio[name]), mark])
        for name in groups
    }
    drop_stale(folder, made_of)
    todo = [(audio[name], rows[name]) for name in groups if not rows[name].is_file()]
    batches = [todo[start : start + BATCH] for start in range(0, len(todo), BATCH)]
    work = functools.partial(_hear, models)
    for _ in parallel_map(work, batches, 1 if ngpu else nj, f"hear {data_dir.name}"):
        pass
    number = write_texts(data_dir, groups, text, output_dir)
    shapes = {n: len(np.load(path, mmap_mode="r", allow_pickle=False)) for n, path in rows.items()}
    write_table(output_dir / "tokens.scp", rows)
    write_table(output_dir / "tokens_shape", shapes)
    hours = sum(samples.values()) / SAMPLING_RATE / 3600
    return f"{output_dir}: {len(groups)} recordings, {hours:.2f} h, {number} texts"


@dataclass(frozen=True)
class Models:
    """What a worker loads once: the ear, and the language model's tokenizer."""

    whisper: Path
    encoder: Path | None
    language_model: Path
    device: str

    @functools.cache  # noqa: B019  one for each worker
    def load(self) -> tuple[Ear, Any]:
        ear = Ear(self.whisper, self.encoder).to(self.device)
        check_frames(ear.encoder)
        return ear, load_tokenizer(self.language_model)


def _hear(models: Models, jobs: list[tuple[list[str], Path]]) -> None:
    """Hear the excerpts of some recordings, one behind the other, and write their token ids."""
    ear, tokenizer = models.load()
    threads = torch.get_num_threads()
    if models.device == "cpu":
        torch.set_num_threads(1)  # the workers are the parallelism
    try:
        cut = []
        for audio, _ in jobs:
            whole = np.concatenate([load_speech(value, SAMPLING_RATE) for value in audio])
            cut.append(pieces(whole, TOKEN_SAMPLES, ear.most))
        heard = iter(ear.hear([part for parts in cut for part in parts]))
        for parts, (_, target) in zip(cut, jobs, strict=True):
            ids = [ids_in_time(next(heard), tokenizer, len(part)) for part in parts]
            write_file(target, functools.partial(np.save, arr=torch.cat(ids).numpy()))
    finally:
        torch.set_num_threads(threads)


def recordings(sizes: Mapping[str, int], most: int, seed: int = 0) -> list[list[str]]:
    """Excerpts, given with their sizes, in recordings of sizes drawn evenly up to `most`."""
    draw, room = random.Random(f"recordings {seed}"), 0
    rows: list[list[str]] = []
    for excerpt, size in sizes.items():
        if size > room:
            rows.append([])
            room = max(draw.randint(1, most), size)
        rows[-1].append(excerpt)
        room -= size
    return rows


def write_texts(
    source: Path, groups: Mapping[str, list[str]], text: Mapping[str, str], target: Path
) -> int:
    """Write the tables prompt (what stands between the audio and an answer) and answer: the
    transcript of every recording, and the questions about its facts.

    Texts of one recording are separated by `SEPARATOR`. A question that two of its excerpts have is
    left out.

    Args:
        source: data directory, has `questions`.
        groups: recording -> its excerpts.
        text: excerpt -> what is said.
    Returns: number of texts.
    """
    path = source / "questions"
    questions = read_questions(path) if path.stat().st_size else {}  # of none where none has a fact
    tables: dict[str, dict[str, str]] = {"prompt": {}, "answer": {}}
    number = 0
    for name, group in groups.items():
        asked = [questions[n] for n in group if n in questions]
        times = Counter(q.question for q in asked)
        pairs = [(ask(q.question), q.choices[q.answer]) for q in asked if times[q.question] == 1]
        pairs.append((TRANSCRIBE, " ".join(text[n] for n in group)))
        for table, texts in zip(("prompt", "answer"), zip(*pairs, strict=True), strict=True):
            tables[table][name] = SEPARATOR.join(" ".join(text.split()) for text in texts)
        number += len(pairs)
    for table, values in tables.items():
        write_table(target / table, values)
    return number
