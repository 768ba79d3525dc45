"""Words to speak that few written passages contain: lists of the commonest, texts of a dictionary.

A short training text has a few thousand words, over and over, and an adapter that is trained on it
alone misses most other words. Convolutions hear half a second and learn no grammar, so lists of
words teach them what sentences would. What WordNet says of 117,000 meanings is as near to connected
speech as to a list of words, and has words that a small language model never writes.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from espnet_prune.files.writing import write_text
from espnet_prune.hub.debian import fetch_packages
from espnet_prune.speech_llm.compact.pieces import load_tokenizer

#: Debian package with a list of English words, and its file
DICTIONARY = "wamerican", "usr/share/dict/american-english"
#: Debian package with WordNet, its folder and files
WORDNET, FOLDER = "wordnet-base", "usr/share/wordnet"
FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
#: words of a list, and how often a comma, that is a pause, follows one; lists spoken together
LENGTH, PAUSES, LISTS_TOGETHER = (6, 10), 0.3, 3
#: shortest and longest text, in words; texts spoken together
LENGTHS, TEXTS_TOGETHER = (4, 16), 12
#: Texts that bring this share of new words are taken first, then those that bring less
SHARES = (0.6, 0.4, 0.3, 0.25)


def write_lists(
    language_model: Path,
    tools_dir: Path,
    most: int,
    times: int,
    text_times: int,
    other_times: int,
    output: Path,
    seed: int,
) -> str:
    """Write passages of word lists and dictionary texts, a JSON list of sentences a line.

    Arguments are the options of `espnet-prune compact words`. Returns what was written, in words.
    FileNotFoundError, ValueError: no such directory; a number out of its range.
    """
    if most < 1 or min(times, text_times, other_times) < 0:
        raise ValueError("--most has to be positive, the other numbers 0 or more")
    tokenizer = load_tokenizer(language_model)
    english = dictionary(tools_dir) if times or text_times else set()
    common, texts = whole_words(tokenizer, english)[:most], []
    if text_times:
        wanted = {word.lower(): other_times for word in english}
        wanted.update({word.lower(): text_times for word in common})
        texts = covering(dictionary_texts(tools_dir), lambda word: wanted.get(word, 0), seed)
    rows = [*word_lists(common, times, seed), *together(texts, TEXTS_TOGETHER)]
    write_text(output, "".join(f"{json.dumps(row)}\n" for row in rows))
    return (
        f"{output}: lists of {len(common)} common words, {times} times; "
        f"{len(texts)} texts, {sum(len(text.split()) for text in texts)} words"
    )


def dictionary(tools: str | Path) -> set[str]:
    """English words and names of letters only, from a Debian package unpacked in `tools`."""
    package, file = DICTIONARY
    words = (fetch_packages([package], tools) / file).read_text(encoding="utf-8").split()
    return {w for w in words if w.isascii() and w.isalpha() and (w.islower() or w.istitle())}


def whole_words(tokenizer: Any, english: set[str]) -> list[str]:
    """Words of three letters and more that are one token after a blank, the commonest first.

    Ids of byte-pair tokens grow as their frequency falls.
    """
    vocabulary = tokenizer.get_vocab()
    blank = tokenizer.convert_ids_to_tokens(tokenizer(" a", add_special_tokens=False).input_ids)
    mark = blank[0].removesuffix("a")
    tokens = sorted(vocabulary, key=vocabulary.get)
    words = [token.removeprefix(mark) for token in tokens if token.startswith(mark)]
    return [word for word in words if len(word) >= 3 and word.isalpha() and word in english]


def word_lists(words: list[str], times: int, seed: int = 0) -> list[Sequence[str]]:
    """Every word `times` times, in lists of another order each time, some lists at once."""
    draw = random.Random(f"word lists {seed}")
    lists = []
    for _ in range(times):
        order = draw.sample(words, len(words))
        while order:
            size = min(draw.randint(*LENGTH), len(order))
            taken, order = order[:size], order[size:]
            marks = [", " if draw.random() < PAUSES else " " for _ in taken[1:]]
            lists.append("".join(a + b for a, b in zip(taken, [*marks, "."], strict=True)))
    return together(lists, LISTS_TOGETHER)


def dictionary_texts(tools: str | Path) -> list[str]:
    """Definitions and examples of `LENGTHS` words without digits, each once and with a full stop,
    from a Debian package unpacked in `tools`."""
    folder = fetch_packages([WORDNET], tools) / FOLDER
    found = set()
    for name in FILES:
        for line in (folder / name).read_text(encoding="ascii", errors="ignore").splitlines():
            # nothing of the licence, whose lines begin with blanks
            gloss = "" if line.startswith("  ") else line.partition("|")[2]
            rest = re.sub(r'"[^"]*"|\([^)]*\)', "", gloss)
            for text in (*re.findall(r'"([^"]+)"', gloss), *rest.split(";")):
                text, size = " ".join(text.split()), len(text.split())
                plain = re.fullmatch(r"[A-Za-z',.?! -]+", text)
                if plain and LENGTHS[0] <= size <= LENGTHS[1]:
                    found.add(text if text[-1] in ".?!" else text.rstrip(" ,-") + ".")
    return sorted(found)


def covering(texts: Sequence[str], wanted: Callable[[str], int], seed: int = 0) -> list[str]:
    """Texts that together have rare words often, chosen by what each brings per word.

        gain(text) = 1 / n  sum_w max(0, 1 - count(w) / wanted(w))

    over the text's different words w, n its number of words, and count(w) how often the texts taken
    before have w. In several passes all texts with a gain of `SHARES` or more are taken, looked at
    in an order of `seed`. `wanted` says how often a word in lower case is wanted, 0 for not at all.
    """
    order = random.Random(f"texts {seed}").sample(list(texts), len(texts))
    words = [re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower()) for text in order]
    count: Counter[str] = Counter()
    taken = [False] * len(order)
    for share in SHARES:
        for i, row in enumerate(words):
            if taken[i] or not row:
                continue
            gain = sum(1 - count[w] / wanted(w) for w in set(row) if wanted(w) > count[w])
            if gain / len(row) >= share:
                taken[i] = True
                count.update(row)
    return [text for text, is_taken in zip(order, taken, strict=True) if is_taken]


def together(texts: Sequence[str], size: int) -> list[Sequence[str]]:
    """Passages of the texts, `size` at a time."""
    return [texts[i : i + size] for i in range(0, len(texts), size)]
