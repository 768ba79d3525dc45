"""What both steps of the training read: frames of the frozen encoder, made once.

Excerpts (`excerpts`) go through the encoder; LoRA reads them in recordings of several each.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from espnet_prune.data.audio import SAMPLING_RATE, load_speech
from espnet_prune.data.data_dir import audio_path, file_name, read_scp, read_table, write_table
from espnet_prune.data.sir.questions import read_questions
from espnet_prune.files.freshness import code_of, digest, drop_stale, stamp
from espnet_prune.files.reading import read_text
from espnet_prune.files.writing import write_file, write_text
from espnet_prune.speech_llm.compact.excerpts import WORDS
from espnet_prune.speech_llm.compact.model import (
    SEPARATOR,
    TRANSCRIBE,
    ask,
    check_frames,
    computing_dtype,
    encode_pairs,
    longest_chunk,
)
from espnet_prune.structured import SpeechEncoder, load_encoder
from espnet_prune.tokens.pruner import FRAME_TOKENS

#: excerpts that are read at once and share inputs of the encoder
BATCH = 16
#: samples of an audio token: two frames of the encoder
TOKEN_SAMPLES = SAMPLING_RATE // FRAME_TOKENS


def write_features(
    encoder: Path,
    data_dir: Path,
    output_dir: Path,
    seconds: float,
    seed: int,
    dtype: str,
    ngpu: int,
) -> str:
    """Give the excerpts of a data directory to a frozen encoder, and write what training reads.

    Arguments are the options of `espnet-prune compact features`, whose help says what is written.
    Returns that in words (ValueError: no frame fits `seconds`, features are another
    encoder's, or the encoder has another frame rate).
    """
    most = int(seconds * FRAME_TOKENS)
    if most < 1:
        raise ValueError(f"--seconds is {seconds:g}, shorter than a frame; give more")
    loaded = load_encoder(encoder).eval().to("cuda" if ngpu else "cpu")
    check_frames(loaded)
    scp, folder = read_scp(data_dir / "wav.scp"), output_dir / "feats"
    encode_all(loaded, scp, folder, computing_dtype(dtype, loaded.device))
    feats = {name: folder / f"{name}.npy" for name in scp}
    shapes = {n: np.load(f, mmap_mode="r", allow_pickle=False).shape for n, f in feats.items()}
    sizes = {name: shape[0] for name, shape in shapes.items()}
    written = {name: ",".join(map(str, shape)) for name, shape in shapes.items()}
    # An excerpt without words is nothing to learn for CTC
    words = {name: text for name, text in read_table(data_dir / "words").items() if text}
    for table, values in (("words", words), ("feats_shape", written), ("feats.scp", feats)):
        write_table(output_dir / "ctc" / table, {name: values[name] for name in words})
    rows, texts = write_recordings(data_dir, feats, sizes, output_dir / "lora", most, seed)
    excerpts = f"{len(scp)} excerpts, {sum(sizes.values()) / FRAME_TOKENS / 3600:.2f} h"
    return f"{output_dir}: {excerpts}; for LoRA {rows} recordings, {texts} texts"


def fingerprint(encoder: SpeechEncoder) -> str:
    """A digest of an encoder's structure and weights."""
    found = hashlib.blake2b(encoder.config.to_json_string().encode(), digest_size=16)
    for name, value in encoder.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
    return found.hexdigest()


def encode_all(
    encoder: SpeechEncoder, scp: dict[str, str], target: Path, dtype: torch.dtype
) -> None:
    """Write target/ID.npy of every recording, unless it is there and made of the same audio
    (ValueError: the directory has features of another encoder, or features are no numbers).

    In bfloat16 features differ by 1% of their size, where training adds 10% of noise.
    """
    target.mkdir(parents=True, exist_ok=True)
    record, made_by = target / "encoder", fingerprint(encoder)
    if record.is_file() and read_text(record).strip() != made_by:
        raise ValueError(f"{target}: holds features of another encoder: remove it")
    write_text(record, made_by + "\n")
    files = {f"{file_name(name)}.npy": audio_path(value) for name, value in scp.items()}
    code = code_of("data/audio.py", "files/archives.py", "speech_llm/compact", "structured")
    drop_stale(target, {name: digest([stamp(path), dtype, code]) for name, path in files.items()})
    todo = [(target / name, path) for name, path in files.items() if not (target / name).is_file()]
    for start in tqdm(range(0, len(todo), BATCH), f"encode {target.parent.name}", mininterval=2):
        batch = todo[start : start + BATCH]
        waves = [load_speech(source, encoder.sampling_rate) for _, source in batch]
        with torch.autocast(encoder.device.type, dtype, enabled=dtype != torch.float32):
            rows = encode_together(encoder, waves)
        for (path, source), row in zip(batch, rows, strict=True):
            with np.errstate(over="ignore"):  # said below
                frames = row.float().cpu().numpy().astype(np.float16)
            if not np.isfinite(frames).all():
                raise ValueError(f"{source}: the encoder gives NaN, or numbers beyond float16")
            write_file(path, functools.partial(np.save, arr=frames))


def encode_together(encoder: SpeechEncoder, waves: Sequence[np.ndarray]) -> list[Tensor]:
    """What `encode_pairs` gives for waveforms that share inputs, see `share_inputs`: (N_i, D) each,
    N_i = ceil(T_i / 640) at most.

    A model that is given recordings in chunks of 30 s hears frames with speech around them, not
    frames of a short waveform with silence behind it.
    """
    inputs = share_inputs([len(wave) for wave in waves], longest_chunk(encoder))
    full = []
    for shared in inputs:
        last, start = shared[-1]
        full.append(np.zeros(start + len(waves[last]), np.float32))
        for number, start in shared:
            full[-1][start : start + len(waves[number])] = waves[number]
    found = []
    for shared, frames in zip(inputs, encode_pairs(encoder, full), strict=True):
        for number, start in shared:
            first = start // TOKEN_SAMPLES
            found.append(frames[first : first + -(-len(waves[number]) // TOKEN_SAMPLES)])
    return found


def share_inputs(lengths: Sequence[int], most: int) -> list[list[tuple[int, int]]]:
    """Short waveforms put together, so that the encoder gets few inputs of up to `most` samples,
    and all are full: for each input (waveform, first sample), in order, each at the beginning of an
    audio token, with a blank of a token and more after it."""
    inputs: list[list[tuple[int, int]]] = []
    end = most
    for number, length in enumerate(lengths):
        if not inputs or end + length > most:
            inputs.append([])
            end = 0
        inputs[-1].append((number, end))
        end = (-(-(end + length) // TOKEN_SAMPLES) + 1) * TOKEN_SAMPLES
    return inputs


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


def write_recordings(
    source: Path,
    feats: Mapping[str, Path],
    sizes: Mapping[str, int],
    target: Path,
    most: int,
    seed: int = 0,
) -> tuple[int, int]:
    """A data directory for LoRA: excerpts of passages in recordings of up to `most` frames, each
    with its transcript and the questions about its facts.

    Writes feats/ID.npy, feats.scp, feats_shape, prompt (what stands between the audio and an
    answer) and answer. Texts of one recording are separated by `SEPARATOR`. A question that two of
    its excerpts have is left out.

    `source` has `text` and `questions`; `feats` and `sizes` are an excerpt's features (T, D) and
    their T. Returns recordings and texts written (ValueError: no excerpt of a passage).
    """
    text, path = read_table(source / "text"), source / "questions"
    questions = read_questions(path) if path.stat().st_size else {}  # of none where none has a fact
    passages = {name: sizes[name] for name in text if not name.startswith(f"{WORDS}_")}
    if not passages:
        raise ValueError(f"{source}: has no excerpt of a passage, only of words")
    tables: dict[str, dict] = {n: {} for n in ("feats.scp", "feats_shape", "prompt", "answer")}
    number = 0
    for group in recordings(passages, most, seed):
        asked = [questions[name] for name in group if name in questions]
        times = Counter(q.question for q in asked)
        pairs = [(ask(q.question), q.choices[q.answer]) for q in asked if times[q.question] == 1]
        pairs.append((TRANSCRIBE, " ".join(text[name] for name in group)))
        frames = np.concatenate([np.load(feats[name], allow_pickle=False) for name in group])
        name = group[0]
        path = target / "feats" / f"{name}.npy"
        write_file(path, functools.partial(np.save, arr=frames))
        tables["feats.scp"][name] = path
        tables["feats_shape"][name] = ",".join(map(str, frames.shape))
        for table, texts in zip(("prompt", "answer"), zip(*pairs, strict=True), strict=True):
            tables[table][name] = SEPARATOR.join(" ".join(text.split()) for text in texts)
        number += len(pairs)
    for table, values in tables.items():
        write_table(target / table, values)
    return len(tables["prompt"]), number
