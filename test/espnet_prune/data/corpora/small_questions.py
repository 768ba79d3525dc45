"""Miniatures of corpora of questions about recordings, in the layouts that their authors use."""

import io
import json
from pathlib import Path

import numpy as np
import soundfile

#: (question, choices, answer, seconds, recording) as AudioBench's datasets have them
ROWS = (
    ("What does he buy?", "(A) A bike;\n(B) A lock;\n(C) A camera.", "(B) A lock;", 61.0, 0),
    ("Where is he?", "(A) At a bank.\n(B) At sea.\n(C) At home.", "(C) At home.", 61.0, 0),
    ("How many?", "(A) 3;\n(B) 4;\n(C) 5.", "(A) 3;", 2.0, 1),
)


def wave(seconds: float, number: int, rate: int = 16000, channels: int = 1) -> np.ndarray:
    generator = np.random.default_rng(number)
    shape = (round(seconds * rate), channels) if channels > 1 else round(seconds * rate)
    return (0.1 * generator.standard_normal(shape)).clip(-1, 1).astype(np.float32)


def save_audiobench(folder: Path, rows=ROWS, rate: int = 16000) -> Path:
    """Parquet files, two rows in the first of them."""
    import pyarrow
    from pyarrow import parquet

    (folder / "data").mkdir(parents=True)
    table = []
    for question, choices, answer, seconds, number in rows:
        content = io.BytesIO()
        soundfile.write(content, wave(seconds, number, rate), rate, format="WAV")
        audio = {"bytes": content.getvalue(), "path": f"{number}.wav"}
        row = {"context": audio, "instruction": question, "choices": choices, "answer": answer}
        table.append(row)
    for n, part in enumerate((table[:2], table[2:])):
        if part:
            path = folder / "data" / f"test-0000{n}-of-00002.parquet"
            parquet.write_table(pyarrow.Table.from_pylist(part), path)
    return folder


def save_audiomarathon(folder: Path) -> Path:
    """The tasks scr, ser and sed, with two recordings each."""
    options = ["Red", "Green team", "Monday", "Nobody"]
    letters = {f"choice_{letter}": text for letter, text in zip("abcd", options, strict=True)}
    scr = [
        {"audio_path": f"test/high/{n}.wav", "question": f"Who wins {n}?", "options": options}
        for n in (0, 1)
    ]
    ser = [{"path": f"dev/{n}.wav", "question": f"Which name {n}?", **letters} for n in (0, 1)]
    choices = dict(zip("ABCD", options, strict=True))
    sed = [{"path": f"{n}.wav", "question": "Which sound?", "choices": choices} for n in (0, 1)]
    files = {
        "race_audio/race_benchmark.json": [row | {"answer": "B"} for row in scr],
        "SLUE/merged_audio_data.json": [row | {"answer_gt": "D"} for row in ser],
        "DESED/audio/desed_sound_event_detection_task.json": {
            "tasks": [row | {"answer_gt": "A"} for row in sed]
        },
    }
    for name, content in files.items():
        path = folder / name
        rows = content["tasks"] if isinstance(content, dict) else content
        for n, row in enumerate(rows):
            audio = path.parent / row.get("audio_path", row.get("path"))
            audio.parent.mkdir(parents=True, exist_ok=True)
            seconds = 61.0 if n and "race" in name else 2.0
            soundfile.write(audio, wave(seconds, n, 8000, 2), 8000)  # two channels
        path.write_text(json.dumps(content))
    return folder
