"""Short texts of a dictionary to speak: WordNet's definitions and examples have all common words.

A small language model writes about few things in few words. What WordNet (Debian's `wordnet-base`)
says of 117,000 meanings is as near to connected speech as to a list of words, and has words that
such a model never writes.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from espnet_prune.hub.debian import fetch_packages

PACKAGE, FOLDER = "wordnet-base", "usr/share/wordnet"
FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
#: shortest and longest text, in words
LENGTHS = (4, 16)
#: Texts that bring this share of new words are taken first, then those that bring less
SHARES = (0.6, 0.4, 0.3, 0.25)
#: texts spoken together
TOGETHER = 12


def dictionary_texts(tools: str | Path) -> list[str]:
    """Definitions and examples of `LENGTHS` words without digits, each once and with a full stop.

    Args:
        tools: where the package is unpacked.
    """
    folder = fetch_packages([PACKAGE], tools) / FOLDER
    found = set()
    for name in FILES:
        for line in (folder / name).read_text(encoding="ascii", errors="ignore").splitlines():
            if line.startswith("  "):  # the licence
                continue
            gloss = line.partition("|")[2]
            rest = re.sub(r'"[^"]*"|\([^)]*\)', "", gloss)
            for text in (*re.findall(r'"([^"]+)"', gloss), *rest.split(";")):
                text = " ".join(text.split())
                if not re.fullmatch(r"[A-Za-z',.?! -]+", text):
                    continue
                if LENGTHS[0] <= len(text.split()) <= LENGTHS[1]:
                    found.add(text if text[-1] in ".?!" else text.rstrip(" ,-") + ".")
    return sorted(found)


def covering(texts: Sequence[str], wanted: Callable[[str], int], seed: int = 0) -> list[str]:
    """Texts that together have rare words often, chosen by what each brings per word.

        gain(text) = 1 / n  sum_w max(0, 1 - count(w) / wanted(w))

    over the text's different words w, n its number of words, and count(w) how often the texts taken
    before have w. In several passes all texts with a gain of `SHARES` or more are taken.

    Args:
        wanted: how often a word in lower case is wanted, 0 for not at all.
        seed: of the order in which texts are looked at.
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


def passages(texts: Iterable[str]) -> list[list[str]]:
    """The texts, `TOGETHER` at a time."""
    texts = list(texts)
    return [texts[i : i + TOGETHER] for i in range(0, len(texts), TOGETHER)]
