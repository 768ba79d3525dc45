"""List the ids of a language model's tokens that occur in a training text, one a line.

They are the classes of the adapter, so each costs it a row of weights.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from espnet_prune.bin import cli
from espnet_prune.recipe.data_dir import read_table, write_text


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--language_model", type=Path, required=True, help="directory of the language model")
    add("--words", type=Path, required=True, help="table with the words of the training windows")
    add("--most", type=int, default=10000, help="only so many, the commonest")
    add("--output", type=Path, required=True, help="file to write")
    return parser


def run(args: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    if not args.language_model.is_dir():
        raise FileNotFoundError(f"{args.language_model}: no such directory")
    tokenizer = AutoTokenizer.from_pretrained(args.language_model)
    counts: Counter[int] = Counter()
    for text in read_table(args.words).values():
        counts.update(tokenizer(f" {text}", add_special_tokens=False).input_ids)
    # Equally common ones by their id, so that the list is the same every time
    chosen = sorted(sorted(counts, key=lambda token: (-counts[token], token))[: args.most])
    write_text(args.output, "".join(f"{token}\n" for token in chosen))
    share = sum(counts[token] for token in chosen) / max(counts.total(), 1)
    print(f"{args.output}: {len(chosen)} of {len(counts)} tokens, {share:.2%} of the text")


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
