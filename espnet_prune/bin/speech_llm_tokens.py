"""Find the tokens that an adapter spells a training text with: few, and each in many words.

They are the classes of the adapter. With all merges of the language model's byte-pair table most
words are tokens of their own, which have to be heard dozens of times each; see
`espnet_prune.speech_llm.compact.pieces`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_prune.cli import errors as cli
from espnet_prune.data.data_dir import read_table
from espnet_prune.files.writing import write_text
from espnet_prune.speech_llm.compact.pieces import find_pieces


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--language_model", type=Path, required=True, help="directory of the language model")
    add("--words", type=Path, required=True, help="table with the words of the training windows")
    add("--merges", type=int, default=0, help="merges of the byte-pair table to use, 0: all")
    add("--output", type=Path, required=True, help="JSON file to write")
    return parser


def run(args: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    if not args.language_model.is_dir():
        raise FileNotFoundError(f"{args.language_model}: no such directory")
    tokenizer = AutoTokenizer.from_pretrained(args.language_model)
    texts = list(read_table(args.words).values())
    pieces, counts = find_pieces(tokenizer, args.merges, texts)
    write_text(args.output, pieces.to_json())
    words = max(sum(len(text.split()) for text in texts), 1)
    print(
        f"{args.output}: {len(pieces.token_ids)} tokens, {counts.total() / words:.2f} of them a "
        f"word; half of them occur {sorted(counts.values())[len(counts) // 2]} times or more"
        if counts
        else f"{args.output}: no words"
    )


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
