"""Ask a compact speech LLM about held-out windows: what its adapter hears, what it answers.

Word error rate of the adapter's best CTC paths, and the share of questions whose right choice is
the likeliest: from the audio, instead from the transcript (upper bound) or the words of those
paths, and from nothing.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from espnet_prune.cli import errors as cli
from espnet_prune.data.audio import read_speech
from espnet_prune.data.data_dir import read_table
from espnet_prune.data.normalize import normalize_text
from espnet_prune.evaluate.environment import environment_report
from espnet_prune.evaluate.metrics.accuracy import accuracy
from espnet_prune.evaluate.metrics.error_rate import count_errors, error_rate
from espnet_prune.files.writing import write_text
from espnet_prune.speech_llm.compact.model import Compact
from espnet_prune.speech_llm.compact.windows import read_questions

SOURCES = ("audio", "transcript", "heard", "nothing")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--model", type=Path, required=True, help="directory of the compact speech LLM")
    add("--data_dir", type=Path, required=True, help="with wav.scp, text and questions")
    add("--most", type=int, default=200, help="only so many windows")
    add("--encoder", type=Path, help="directory, instead of the model's own")
    add("--language_model", type=Path, help="directory, instead of the model's own")
    add("--device", default="cpu", help="cpu or cuda")
    add("--output", type=Path, required=True, help="file to write, in markdown; .json beside it")
    return parser


def evaluate(llm: Compact, data_dir: Path, most: int) -> dict[str, dict]:
    """Estimates with their 95% intervals: `wer`, and accuracy for each of `SOURCES`."""
    scp, texts = read_table(data_dir / "wav.scp"), read_table(data_dir / "text")
    questions = read_questions(data_dir / "questions")
    names = sorted(questions)[:most]
    if not names:
        raise ValueError(f"{data_dir / 'questions'}: has no questions")
    heard, right = [], {source: [] for source in SOURCES}
    for name in tqdm(names, "ask", mininterval=2):
        samples, rate = read_speech(scp[name])
        wave = samples[: llm.chunk_samples, 0]
        audio, words = llm.hear(wave, rate)
        heard.append(words)
        question, choices, answer = questions[name]
        given = {
            "audio": audio,
            "transcript": llm.embed_text(" " + texts[name]),
            "heard": llm.embed_text(" " + words) if words else llm.empty_audio(),
            "nothing": llm.empty_audio(),
        }
        for source, tokens in given.items():
            (scores,) = llm.score_choices(llm.prompts([tokens], [question]), [choices])
            right[source].append(int(scores.argmax()) == answer)
    counts = count_errors(
        [normalize_text(texts[name]) for name in names], [normalize_text(t) for t in heard]
    )
    wer = error_rate(counts)
    found = {"wer": {"value": wer.rate, "low": wer.low, "high": wer.high}}
    for source in SOURCES:
        share = accuracy([np.array(right[source])])
        found[source] = {"value": share.value, "low": share.low, "high": share.high}
    return {"windows": len(names), **found}


def table(found: dict, title: str) -> str:
    """The estimates as a markdown table."""

    def cell(name: str) -> str:
        return "{value:.1%} ({low:.1%} to {high:.1%})".format(**found[name])

    rows = [
        f"# {title}",
        "",
        f"{found['windows']} held-out windows; 95% bootstrap intervals.",
        "",
        "| | |",
        "|---|---|",
        f"| word error rate of the adapter's CTC | {cell('wer')} |",
        f"| right answers (of four), audio | {cell('audio')} |",
        f"| the same, transcript instead of audio | {cell('transcript')} |",
        f"| the same, words of those CTC paths instead of audio | {cell('heard')} |",
        f"| the same, nothing | {cell('nothing')} |",
        "",
    ]
    return "\n".join(rows)


def run(args: argparse.Namespace) -> None:
    if args.most < 1:
        raise ValueError(f"--most is {args.most}, but has to be positive")
    llm = Compact.from_pretrained(args.model, args.device, args.encoder, args.language_model)
    found = evaluate(llm, args.data_dir, args.most)
    text = table(found, f"Compact speech LLM on {args.data_dir.name}")
    write_text(args.output.with_suffix(".json"), json.dumps(found, indent=2) + "\n")
    write_text(args.output, text + "\n" + environment_report())
    print(text)


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
