"""A tiny random speech LLM on disk, and a data directory with four short items."""

import json
from pathlib import Path

import numpy as np
import soundfile

from espnet_prune.data.data_dir import write_table
from espnet_prune.speech_llm.compact.adapter import AdapterShape, AudioAdapter
from espnet_prune.speech_llm.compact.model import (
    CompactConfig,
    load_language_model,
    lora_parameters,
    save_compact,
    with_lora,
)
from test.espnet_prune.speech_llm.models import RATE, llama, qwen2_audio, randomize, tokenizer
from test.espnet_prune.whispers import save_ear

SECONDS = {"a": 5.0, "b": 3.3, "c": 6.5, "d": 4.0}
#: key sentences, in seconds
KEYS = {"a": [1.0, 2.0], "b": [0.0, 1.0], "c": [4.0, 5.5], "d": [2.0, 3.0]}
CHOICES = ["red", "green team", "Monday"]


def save_speech_llm(folder: Path) -> Path:
    """Qwen2-Audio's class with chunks of 2 s, for `Qwen2Audio.from_pretrained`."""
    model, processor = qwen2_audio(2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_compact_llm(folder: Path) -> Path:
    """A compact speech LLM, with its Whisper and language model in directories beside it."""
    tokens = tokenizer()
    save_ear(folder / "whisper")
    llama(len(tokens)).save_pretrained(folder / "lm")
    tokens.save_pretrained(folder / "lm")
    shape = AdapterShape(spread=0.85)
    config = CompactConfig(str(folder / "whisper"), str(folder / "lm"), shape, 2, 4)
    lm, _ = load_language_model(folder / "lm")
    adapter = randomize(AudioAdapter(24, shape))
    save_compact(folder, config, adapter, lora_parameters(with_lora(lm, rank=2, alpha=4)))
    return folder


def save_data_dir(folder: Path) -> Path:
    generator = np.random.default_rng(0)
    scp, samples = {}, {}
    for n, (name, seconds) in enumerate(SECONDS.items()):
        scp[name] = folder / "wav" / f"{name}.wav"
        scp[name].parent.mkdir(parents=True, exist_ok=True)
        samples[name] = round(seconds * RATE)
        wave = generator.normal(size=samples[name]) * np.linspace(0.01, 0.2, samples[name])
        soundfile.write(scp[name], wave.astype(np.float32) * (n + 1) / 4, RATE)
    questions = {
        name: {"question": f"who wins {name}?", "choices": CHOICES, "answer": n % 3}
        for n, name in enumerate(SECONDS)
    }
    write_table(folder / "wav.scp", scp)
    write_table(folder / "utt2spk", {name: name for name in scp})
    write_table(folder / "utt2num_samples", samples)
    write_table(folder / "text", dict.fromkeys(scp, "what is said here"))
    write_table(folder / "questions", {k: json.dumps(v) for k, v in questions.items()})
    rows = {name: json.dumps({"sentences": [key], "key": key}) for name, key in KEYS.items()}
    write_table(folder / "sentences", rows)
    return folder
