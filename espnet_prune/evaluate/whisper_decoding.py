"""Transcripts by Whisper's own decoder behind a dense or pruned encoder.

Greedy, over Whisper's full window of 30 s, with the prompt and the suppressed tokens of the
teacher's generation_config.json.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoTokenizer

from espnet_prune.data.audio import load_speech
from espnet_prune.data.data_dir import audio_path, read_scp, write_table
from espnet_prune.files.archives import place_of, size_of
from espnet_prune.files.freshness import code_of, digest, stamp
from espnet_prune.files.growing import go_on, grow
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_json
from espnet_prune.structured.whisper_decoder import greedy_decode, load_with_decoder

logger = logging.getLogger(__name__)

PARTIAL = ".text.partial"
RECORD = "decode.json"


def sorted_batches(utterances: dict[str, str], batch_size: int) -> Iterator[list[str]]:
    """Batches of utterances of about the same file size, small ones first.

    One batch takes as many decoding steps as its longest transcript.
    """
    keys = sorted(utterances, key=lambda key: (size_of(audio_path(utterances[key])), key))
    for start in range(0, len(keys), batch_size):
        yield keys[start : start + batch_size]


def fingerprint(teacher_dir: Path, encoder: str | None, scp: dict[str, str]) -> dict[str, str]:
    """What the hypotheses depend on; results of other inputs must not be taken for finished."""
    audio = [f"{key} {value} {stamp(audio_path(value))}" for key, value in scp.items()]
    code = code_of(
        "structured", "data/audio.py", "files/archives.py", "evaluate/whisper_decoding.py"
    )
    marks = {"data_dir": digest(audio), "code": code}
    for name, model in (("teacher_dir", teacher_dir), ("encoder", encoder)):
        place = Path(model or teacher_dir)
        kinds = ("safetensors", "bin", "json", "txt", "model")  # tokens and what is suppressed, too
        files = sorted(file for kind in kinds for file in place.glob(f"*.{kind}"))
        marks[name] = digest([str(model), *files])
    return marks


def decode(
    teacher_dir: Path,
    encoder: str | None,
    scp: dict[str, str],
    batch_size: int,
    partial: Path,
    full_window: bool = True,
    max_new_tokens: int | None = None,
) -> float:
    """Append the hypotheses of the utterances to ``partial``; returns the seconds of speech."""
    model, front = load_with_decoder(teacher_dir, encoder)
    tokenizer = AutoTokenizer.from_pretrained(teacher_dir, trust_remote_code=False)
    # Half of the decoder's context, as in the original implementation.
    max_new_tokens = max_new_tokens or model.config.max_target_positions // 2
    samples = 0
    with tqdm(total=len(scp), unit="utt") as bar:
        for keys in sorted_batches(scp, batch_size):
            speech = [torch.from_numpy(load_speech(scp[key], name=key)) for key in keys]
            lengths = torch.tensor([len(x) for x in speech])
            samples += int(lengths.sum())
            padded = torch.nn.utils.rnn.pad_sequence(speech, batch_first=True)
            with torch.inference_mode():
                states = front(padded, lengths, full_window).last_hidden_state
            rows = greedy_decode(model, states, max_new_tokens)
            texts = [" ".join(tokenizer.decode(r, skip_special_tokens=True).split()) for r in rows]
            grow(partial, zip(keys, texts, strict=True))
            bar.update(len(keys))
    return samples / front.sampling_rate


def transcribe_directory(
    data_dir: Path,
    output_dir: Path,
    teacher_dir: Path,
    encoder: str | None = None,
    batch_size: int = 16,
    full_window: bool = True,
    max_new_tokens: int | None = None,
) -> None:
    """Write OUTPUT_DIR/text (utterance and hypothesis a line) and decode.json.

    A run that was stopped goes on after the last finished batch.

    Args:
        data_dir: has wav.scp with formatted 16 kHz audio.
        teacher_dir: transformers directory of the full Whisper.
        encoder: dense or pruned encoder directory; None: the teacher's own encoder.
        batch_size: utterances at a time.
        full_window: pad to 30 s, as Whisper is used; see `SpeechEncoder.prepare`.
        max_new_tokens: of a transcript; half of the decoder's context when absent.
    Raises:
        FileNotFoundError, ValueError: audio or a model cannot be read, or they do not fit.
    """
    if batch_size < 1:
        raise ValueError(f"--batch_size is {batch_size}; give 1 or more")
    if max_new_tokens is not None and max_new_tokens < 1:
        raise ValueError(f"--max_new_tokens is {max_new_tokens}; give 1 or more")
    scp = read_scp(data_dir / "wav.scp")
    for key, value in scp.items():
        if not os.path.isfile(place_of(audio_path(value))[0]):
            raise FileNotFoundError(f"{data_dir / 'wav.scp'}: {key}: no such file as {value}")
    hearing = {"full_window": full_window, "max_new_tokens": max_new_tokens}
    inputs = {**fingerprint(teacher_dir, encoder, scp), **hearing}
    text, record, partial = (output_dir / name for name in ("text", RECORD, PARTIAL))
    if text.is_file() and record.is_file() and read_record(record).get("inputs") == inputs:
        logger.info("%s: done already", text)
        return
    finished = dict(go_on(partial, inputs))
    if finished:
        logger.info("going on after %d of %d utterances", len(finished), len(scp))
    left = {key: value for key, value in scp.items() if key not in finished}

    begin = time.perf_counter()
    seconds = 0.0
    if left:
        seconds = decode(teacher_dir, encoder, left, batch_size, partial, **hearing)
    took = time.perf_counter() - begin
    write_table(text, dict(go_on(partial, inputs)))
    models = {"teacher_dir": str(teacher_dir), "encoder": str(encoder)}
    settings = {**models, "data_dir": str(data_dir), "batch_size": str(batch_size)}
    write_json(record, {**settings, "inputs": inputs})
    partial.unlink()
    done = "%s: %d utterances; %.0f s of speech decoded in %.0f s"
    logger.info(done, text, len(scp), seconds, took)
