"""Invented facts for question-answering practice: a sentence to hide in a passage, a question about
it, four choices. All of it is made from the templates of facts.yaml; none comes from a test set.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from espnet_prune.files.reading import package_table


@functools.cache
def invention() -> tuple[dict[str, list[str]], list[dict[str, str]]]:
    """Values by kind, and templates (sentence, question, answer), see facts.yaml."""
    found = package_table(__package__, "facts.yaml")
    return found["values"], found["templates"]


@dataclass(frozen=True)
class Fact:
    """A sentence, a question about it, four choices, and the number of the right one."""

    sentence: str
    question: str
    choices: tuple[str, ...]
    answer: int


def invent(seed: str) -> Fact:
    """A fact, drawn by `seed`; the wrong choices are other values of the same kind."""
    known_values, templates = invention()
    draw = random.Random(f"fact {seed}")
    template = draw.choice(templates)
    kind = template["answer"].partition("{=")[2].partition("}")[0]
    values = draw.sample(known_values[kind], 4)
    known = {
        other: draw.choice([value for value in those if value not in values])
        for other, those in known_values.items()
        if f"{{{other}}}" in template["sentence"] + template["question"]
    }

    def fill(text: str, answer: str) -> str:
        text = text.replace(f"{{={kind}}}", answer)
        for other, value in known.items():
            text = text.replace(f"{{{other}}}", value)
        return text[0].upper() + text[1:]

    right = draw.randrange(4)
    values[0], values[right] = values[right], values[0]
    choices = tuple(fill(template["answer"], value) for value in values)
    sentence, question = (fill(template[part], values[right]) for part in ("sentence", "question"))
    return Fact(sentence, question, choices, right)


def hide(sentences: Sequence[str], fact: Fact, seed: str) -> tuple[list[str], int]:
    """Put the fact's sentence between others, at a place drawn by `seed`.

    Returns: all sentences, and the number of the fact's.
    """
    place = random.Random(f"place {seed}").randrange(len(sentences) + 1)
    return [*sentences[:place], fact.sentence, *sentences[place:]], place
