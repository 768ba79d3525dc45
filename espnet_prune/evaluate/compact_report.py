"""A compact speech LLM on held-out excerpts: WER of its ear, and right answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from espnet_prune.data.audio import load_speech
from espnet_prune.data.data_dir import read_scp, read_table
from espnet_prune.data.normalize import normalize_text
from espnet_prune.data.sir.questions import read_questions
from espnet_prune.evaluate.environment import environment_report
from espnet_prune.evaluate.metrics.accuracy import accuracy
from espnet_prune.evaluate.metrics.error_rate import count_errors, error_rate
from espnet_prune.evaluate.report import metric
from espnet_prune.files.writing import write_json, write_text
from espnet_prune.speech_llm import Compact, SpeechLLM
from espnet_prune.speech_llm.compact.excerpts import UTT2VOICE
from espnet_prune.speech_llm.compact.model import recipe_model

#: what stands in the place of audio -> its row in the table
SOURCES = {
    "audio": "right answers (of four), audio",
    "transcript": "the same, transcript instead of audio",
    "heard": "the same, words of its ear instead of audio",
    "nothing": "the same, nothing",
}


def evaluate(llm: SpeechLLM, data_dir: Path, most: int) -> dict[str, dict]:
    """Estimates with their 95% intervals: `wer`, and accuracy for each of `SOURCES`, of the first
    `most` excerpts of a directory with wav.scp, text and questions; and, where it has a table
    `utt2voice`, `wer_by_voice`."""
    scp, texts = read_scp(data_dir / "wav.scp"), read_table(data_dir / "text")
    questions = read_questions(data_dir / "questions")
    names = sorted(questions)[:most]
    heard, right = [], {source: [] for source in SOURCES}
    for name in tqdm(names, "ask", mininterval=2):
        samples = load_speech(scp[name], llm.sampling_rate, name=name)
        audio, words, _ = llm.hear(samples[: llm.chunk_samples], llm.sampling_rate)
        heard.append(normalize_text(words))
        asked = questions[name]
        given = audio, *map(llm.written_audio, (texts[name], words, ""))
        for source, tokens in zip(SOURCES, given, strict=True):
            prompts = llm.prompts([tokens], [asked.question])
            (scores,) = llm.score_choices(prompts, [asked.choices])
            right[source].append(int(scores.argmax()) == asked.answer)
    said = [normalize_text(texts[name]) for name in names]
    wer = error_rate(count_errors(said, heard))
    voices = read_table(data_dir / UTT2VOICE) if (data_dir / UTT2VOICE).is_file() else {}
    by_voice: dict[str, list[int]] = {}
    for n, name in enumerate(names):
        if name in voices:
            by_voice.setdefault(voices[name], []).append(n)
    rates = {
        voice: metric(error_rate(count_errors([said[n] for n in rows], [heard[n] for n in rows])))
        for voice, rows in sorted(by_voice.items())
    }
    accuracies = {source: metric(accuracy([np.array(of)])) for source, of in right.items()}
    return {"excerpts": len(names), "wer": metric(wer), "wer_by_voice": rates, **accuracies}


def table(found: dict, title: str) -> str:
    """The estimates as a Markdown table."""
    rows = {"wer": "word error rate of the ear", **SOURCES}
    cell = "{value:.1%} ({low:.1%} to {high:.1%})"
    lines = [f"| {row} | {cell.format(**found[name])} |" for name, row in rows.items()]
    lines[1:1] = [
        f"| of these, {voice} | {cell.format(**rate)} |"
        for voice, rate in found["wer_by_voice"].items()
    ]
    excerpts = f"{found['excerpts']} held-out excerpts; 95% bootstrap intervals."
    return "\n".join([f"# {title}", "", excerpts, "", "| | |", "|---|---|", *lines, ""])


def write_report(
    model: Path | None,
    data_dir: Path,
    most: int,
    whisper: Path | None,
    encoder: Path | None,
    language_model: Path | None,
    device: str,
    output: Path,
) -> str:
    """Write what `evaluate` finds: a table in Markdown, which is returned, and JSON beside it.

    Arguments are the options of `espnet-prune compact report`.
    """
    if most < 1:
        raise ValueError(f"--most is {most}, but has to be positive")
    llm = Compact.from_pretrained(model or recipe_model(), device, whisper, encoder, language_model)
    found = evaluate(llm, data_dir, most)
    text = table(found, f"Compact speech LLM on {data_dir.name}")
    write_json(output.with_suffix(".json"), found)
    write_text(output, text + "\n" + environment_report())
    return text
