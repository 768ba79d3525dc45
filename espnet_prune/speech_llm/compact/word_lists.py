"""Lists of words to speak, so that an adapter has heard what few written passages contain.

A short training text has a few thousand words, over and over, and an adapter that is trained on it
alone misses most other words. Convolutions hear half a second and learn no grammar, so lists of
words teach them what sentences would.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from espnet_prune.hub.debian import fetch_packages

#: Debian package with a list of English words, and its file
DICTIONARY = "wamerican", "usr/share/dict/american-english"
#: words of a list, and how often a comma, that is a pause, follows one; lists spoken together
LENGTH, PAUSES, TOGETHER = (6, 10), 0.3, 3


def dictionary(tools: str | Path) -> set[str]:
    """English words and names of letters only, from a Debian package unpacked in `tools`."""
    package, file = DICTIONARY
    words = (fetch_packages([package], tools) / file).read_text(encoding="utf-8").split()
    return {w for w in words if w.isascii() and w.isalpha() and (w.islower() or w.istitle())}


def whole_words(tokenizer, english: Iterable[str]) -> list[str]:
    """Words of three letters and more that are one token after a blank, the commonest first.

    Ids of byte-pair tokens grow as their frequency falls.
    """
    vocabulary, english = tokenizer.get_vocab(), set(english)
    blank = tokenizer.convert_ids_to_tokens(tokenizer(" a", add_special_tokens=False).input_ids)
    mark = blank[0].removesuffix("a")
    tokens = sorted(vocabulary.items(), key=lambda item: item[1])
    words = [token.removeprefix(mark) for token, _ in tokens if token.startswith(mark)]
    return [word for word in words if len(word) >= 3 and word.isalpha() and word in english]


def word_lists(words: list[str], times: int, seed: int = 0) -> Iterator[list[str]]:
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
    for start in range(0, len(lists), TOGETHER):
        yield lists[start : start + TOGETHER]
