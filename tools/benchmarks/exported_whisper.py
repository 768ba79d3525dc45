"""Transcripts, error rates and times of exported Whispers in unmodified faster-whisper.

The models of `espnet-prune encoder export --to ctranslate2` transcribe a data directory, greedily
and without timestamps. They take turns utterance by utterance in one process, after a first one
that is not counted. With --hyp, transcripts of the same utterances by another engine (of
`espnet_prune.bin.whisper_inference`) are compared word by word.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from espnet_prune.cli.errors import run_or_exit
from espnet_prune.cli.options import above_zero, whole
from espnet_prune.data.audio import SAMPLING_RATE, load_speech
from espnet_prune.data.data_dir import read_scp, read_table
from espnet_prune.data.normalize import normalize_text
from espnet_prune.evaluate.measuring import write_report
from espnet_prune.evaluate.metrics.error_rate import count_errors, error_rate
from espnet_prune.evaluate.report import table, with_interval
from espnet_prune.extras import load_extra
from espnet_prune.files.reading import read_record


def run(args: argparse.Namespace) -> None:
    engine = load_extra("faster_whisper", "ctranslate2")
    names = [name for name, _, _ in args.model]
    for name, _ in args.hyp:
        if name not in names:
            raise ValueError(f"--hyp {name}: there is no --model of that name")
    models = {
        name: engine.WhisperModel(
            folder, "cpu", compute_type=kind, cpu_threads=args.threads, local_files_only=True
        )
        for name, folder, kind in args.model
    }
    references = read_table(args.data_dir / "text")
    scp = read_scp(args.data_dir / "wav.scp")
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    took: dict[str, list[float]] = {name: [] for name in names}
    speech = [(key, load_speech(value, name=key)) for key, value in scp.items()]
    silent = {
        name: read_record(Path(folder) / "config.json")["suppress_ids"]
        for name, folder, _ in args.model
    }
    for name, model in models.items():
        _transcribe(model, speech[0][1], silent[name])
    for key, samples in tqdm(speech, unit="utt"):
        if len(samples) > args.seconds * SAMPLING_RATE:
            seconds = len(samples) / SAMPLING_RATE
            raise ValueError(f"{key}: {seconds:.1f} s are more than {args.seconds:g}")
        for name, model in models.items():
            begin = time.perf_counter()
            found[name][key] = _transcribe(model, samples, silent[name])
            took[name].append(time.perf_counter() - begin)
    seconds = sum(len(samples) for _, samples in speech) / SAMPLING_RATE
    first, others = names[0], dict(args.hyp)
    rows = [["model", "MB", "WER % [95%]", "s", f"speed of {first}", "as the other engine"]]
    numbers = {}
    spoken = [normalize_text(references[key]) for key, _ in speech]
    for name, folder, kind in args.model:
        heard = [normalize_text(found[name][key]) for key, _ in speech]
        rate = error_rate(count_errors(spoken, heard))
        size = (Path(folder) / "model.bin").stat().st_size / 1e6
        same = "-"
        if name in others:
            theirs = read_table(others[name])
            equal = sum(found[name][key] == " ".join(theirs[key].split()) for key, _ in speech)
            same = f"{equal} of {len(speech)}"
        total = sum(took[name])
        wer = with_interval(rate.rate, rate.low, rate.high)
        speed = f"{sum(took[first]) / total:.2f}x"
        rows.append([f"{name}, {kind}", f"{size:.1f}", wer, f"{total:.1f}", speed, same])
        numbers[name] = {"type": kind, "seconds": took[name], "wer": rate.rate, "same": same}
    print(table(rows))
    conditions = f"{len(speech)} utterances, {seconds:.0f} s of speech, {args.threads} CPU threads"
    print(f"\n{conditions}, models in turn")
    if args.output:
        write_report(args.output, conditions, models=numbers)


def main(cmd: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data_dir", type=Path, required=True, help="directory with wav.scp and text")
    text = "name in the table, exported directory, and compute type such as float32 or int8"
    add(
        "--model",
        nargs=3,
        action="append",
        required=True,
        metavar=("NAME", "DIR", "TYPE"),
        help=text,
    )
    pair = {"nargs": 2, "action": "append", "metavar": ("NAME", "TEXT"), "default": []}
    add("--hyp", **pair, help="name of a model, and its transcripts by another engine")
    add("--threads", type=whole(1), default=2, help="CPU threads (default: 2)")
    add("--seconds", type=above_zero, default=30.0, help="longest utterance (default: 30)")
    add("--output", type=Path, help="JSON file for all numbers")
    run_or_exit(run, parser.parse_args(cmd))


def _transcribe(model, samples: np.ndarray, silent: list[int]) -> str:
    # faster-whisper fills its window behind the spectrogram, Whisper with silence before it
    window = np.pad(samples, (0, max(30 * SAMPLING_RATE - len(samples), 0)))
    segments, _ = model.transcribe(
        window,
        language="en",
        beam_size=1,
        suppress_tokens=silent,
        temperature=0.0,
        without_timestamps=True,
        condition_on_previous_text=False,
        no_speech_threshold=None,
        compression_ratio_threshold=None,
        log_prob_threshold=None,
    )
    return " ".join(" ".join(segment.text for segment in segments).split())


if __name__ == "__main__":
    main()
