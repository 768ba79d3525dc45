"""Write what few written passages contain, to be spoken as well: lists of the commonest words, and
texts of a dictionary chosen so that together they have these words often and many others. JSON
lines, a passage each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from espnet_prune.cli import errors as cli
from espnet_prune.files.writing import write_text
from espnet_prune.speech_llm.compact.word_lists import dictionary, whole_words, word_lists
from espnet_prune.speech_llm.compact.wordnet import covering, dictionary_texts, passages


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--language_model", type=Path, required=True, help="directory of the language model")
    add("--tools_dir", type=Path, required=True, help="where word list and texts are unpacked")
    add("--most", type=int, default=12000, help="common words: tokens of the language model")
    add("--times", type=int, default=10, help="how often lists have each of them; 0: no lists")
    add("--text_times", type=int, default=8, help="how often texts should; 0: no texts")
    add("--other_times", type=int, default=1, help="how often texts should have all other words")
    add("--output", type=Path, required=True, help="file to write")
    add("--seed", type=int, default=0, help="of the order")
    return parser


def run(args: argparse.Namespace) -> None:
    from transformers import AutoTokenizer

    if args.most < 1 or min(args.times, args.text_times, args.other_times) < 0:
        raise ValueError("--most has to be positive, the other numbers 0 or more")
    if not args.language_model.is_dir():
        raise FileNotFoundError(f"{args.language_model}: no such directory")
    common, texts = [], []
    if args.times or args.text_times:
        tokenizer = AutoTokenizer.from_pretrained(args.language_model)
        english = dictionary(args.tools_dir)
        common = whole_words(tokenizer, english)[: args.most]
    lists = list(word_lists(common, args.times, args.seed))
    if args.text_times:
        wanted = {word.lower(): args.other_times for word in english}
        wanted.update({word.lower(): args.text_times for word in common})
        of_dictionary = dictionary_texts(args.tools_dir)
        texts = covering(of_dictionary, lambda word: wanted.get(word, 0), args.seed)
    rows = [*lists, *passages(texts)]
    write_text(args.output, "".join(f"{json.dumps(row)}\n" for row in rows))
    print(
        f"{args.output}: lists of {len(common)} common words, {args.times} times; "
        f"{len(texts)} texts, {sum(len(text.split()) for text in texts)} words"
    )


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
