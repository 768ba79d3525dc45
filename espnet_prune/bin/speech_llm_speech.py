"""Speak passages into the data directories train, valid and test of a compact speech LLM.

Train and valid are spoken by the training voices, test by voices that training never hears; the
passages of the three are different ones.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from espnet_prune.cli import errors as cli
from espnet_prune.speech_llm.compact.windows import (
    EVALUATION_VOICES,
    SPEEDS,
    TRAINING_VOICES,
    WORDS,
    speak_windows,
    window_items,
    write_words,
)

PARTS = ("train", "valid", "test")


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--passages", type=Path, required=True, help="file with a JSON list of sentences a line")
    add("--word_lists", type=Path, help="another such file, without facts, for train only")
    add("--output_dir", type=Path, required=True, help="where train, valid and test go")
    add("--tools_dir", type=Path, required=True, help="where packages of voices are unpacked")
    add("--held_out", type=int, default=60, help="first passages, half for valid, half for test")
    add("--fact_share", type=float, default=0.5, help="windows of train and valid with a question")
    add("--voices", default=" ".join(TRAINING_VOICES), help="training voices, with blanks between")
    add("--test_voices", default=" ".join(EVALUATION_VOICES), help="voices of test")
    add("--seed", type=int, default=0, help="of facts and their places")
    add("--nj", type=int, default=1, help="processes")
    return parser


def read_passages(path: Path) -> list[list[str]]:
    """Lists of sentences, [] for a passage that is no use."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: line {number}: not JSON: {error}") from None
        if not isinstance(row, list) or not all(isinstance(sentence, str) for sentence in row):
            raise ValueError(f"{path}: line {number}: is no list of sentences")
        rows.append(row)
    return rows


def run(args: argparse.Namespace) -> None:
    passages = read_passages(args.passages)
    half = args.held_out // 2
    parts = {
        "valid": passages[:half],
        "test": passages[half : args.held_out],
        "train": passages[args.held_out :],
    }
    voices, test_voices = args.voices.split(), args.test_voices.split()
    both = set(voices) & set(test_voices)
    if both:
        raise ValueError(f"--voices and --test_voices both have {sorted(both)[0]}")
    fast_and_slow = [f"{voice}@{speed}" for voice in voices for speed in SPEEDS]
    for name in PARTS:
        # All windows of the test have a question: they are what it asks
        share = 1.0 if name == "test" else args.fact_share
        items = window_items(parts[name], name, share, args.seed)
        if name == "train" and args.word_lists:
            items += window_items(read_passages(args.word_lists), WORDS, 0.0, args.seed)
        if not items:
            raise ValueError(f"{args.passages}: has no passages for {name}, --held_out counted")
        speakers = test_voices if name == "test" else fast_and_slow
        seconds = speak_windows(items, speakers, args.tools_dir, args.output_dir / name, args.nj)
        facts = sum(bool(item.question) for item in items)
        print(f"{name}: {len(items)} windows, {seconds / 3600:.2f} h, {facts} with a question")
    train, *others = (args.output_dir / name for name in PARTS)
    write_words(train, others)


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
