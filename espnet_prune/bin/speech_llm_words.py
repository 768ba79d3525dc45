"""Write lists of common words to speak, passages of a few lists each, as JSON lines.

The words are tokens of the language model; a word list of Debian's says which tokens are words.
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
    add("--most", type=int, default=8000, help="words, the commonest")
    add("--times", type=int, default=3, help="how often each is spoken")
    add("--output", type=Path, required=True, help="file to write")
    add("--seed", type=int, default=0, help="of the order")
    return parser


def run(args: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    if args.most < 1 or args.times < 0:
        raise ValueError("--most has to be positive, and --times 0 or more")
    if not args.language_model.is_dir():
        raise FileNotFoundError(f"{args.language_model}: no such directory")
    words = []
    if args.times:
        tokenizer = AutoTokenizer.from_pretrained(args.language_model)
        words = whole_words(tokenizer, dictionary(args.tools_dir))[: args.most]
    rows = [json.dumps(row) for row in word_lists(words, args.times, args.seed)]
    write_text(args.output, "".join(f"{row}\n" for row in rows))
    print(f"{args.output}: {len(words)} words in {len(rows)} passages")


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
