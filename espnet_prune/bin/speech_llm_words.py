"""Write lists of words to speak, passages of a few lists each, as JSON lines.

All words of a word list of Debian's come once, those that are tokens of the language model, the
commonest, several times.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from espnet_prune.bin import cli
from espnet_prune.recipe.data_dir import write_text
from espnet_prune.recipe.word_lists import dictionary, whole_words, word_lists


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--language_model", type=Path, required=True, help="directory of the language model")
    add("--tools_dir", type=Path, required=True, help="where the word list is unpacked")
    add("--most", type=int, default=8000, help="common words")
    add("--times", type=int, default=3, help="how often each of them is spoken; 0: no lists at all")
    add("--output", type=Path, required=True, help="file to write")
    add("--seed", type=int, default=0, help="of the order")
    return parser


def run(args: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    if args.most < 1 or args.times < 0:
        raise ValueError("--most has to be positive, and --times 0 or more")
    if not args.language_model.is_dir():
        raise FileNotFoundError(f"{args.language_model}: no such directory")
    common, others = [], []
    if args.times:
        tokenizer = AutoTokenizer.from_pretrained(args.language_model)
        english = dictionary(args.tools_dir)
        common = whole_words(tokenizer, english)[: args.most]
        others = sorted(english.difference(common))
    lists = [*word_lists(common, args.times, args.seed), *word_lists(others, 1, args.seed)]
    write_text(args.output, "".join(f"{json.dumps(row)}\n" for row in lists))
    print(
        f"{args.output}: {len(common)} common and {len(others)} other words, {len(lists)} passages"
    )


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
