"""How a speech LLM is asked, and which choice counts as its answer."""

from __future__ import annotations

import re

from espnet_prune.data.sir.questions import LETTERS

#: every choice's text is scored by its mean log-likelihood; or an answer is generated, and the
#: choice whose letter it says is taken
LIKELIHOOD, LETTER = "likelihood", "letter"
PROTOCOLS = (LIKELIHOOD, LETTER)
#: what is asked, if nothing else is said
PROMPTS = {
    LIKELIHOOD: "{question}",
    LETTER: "{question}\n{choices}\nAnswer with the letter of the right choice.",
}
#: of a generated answer
LETTER_TOKENS = 16


def check_protocol(protocol: str, prompt: str) -> None:
    """ValueError for an unknown protocol, or a prompt that it cannot be asked with."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is '{protocol}', choose from {', '.join(PROTOCOLS)}")
    needed = ("{question}", "{choices}") if protocol == LETTER else ("{question}",)
    for part in needed:
        if part not in prompt:
            raise ValueError(f"prompt is '{prompt}', but has to have {part} in it")


def letter_said(text: str, number: int) -> int | None:
    """Which of so many choices an answer names by its letter, from 0 on; None where it names none.

    The first rule that finds a letter counts, and in it the first letter: an answer that begins
    with a letter by itself ("B", "b.", "(B) the red one"); a letter in brackets or behind "answer",
    "option" or "choice"; a capital letter by itself anywhere, but an A only where no word in small
    letters follows, else it is an article.

    >>> [letter_said(said, 4) for said in ("(B) red", "The answer is C.", "A red one", "E")]
    [1, 2, None, None]
    """
    own = LETTERS[:number]
    rules = (
        rf"(?i)^\W*([{own}])\s*(?:[.):,;*\n]|$)",
        rf"\(([{own}])\)|\b(?i:answer|option|choice)\W+(?:(?i:is)\W+)?([{own}])\b(?!\s+[a-z])",
        rf"\b([{own[1:]}])\b|\b(A)\b(?!\s+[a-z])",
    )
    for rule in rules:
        found = re.search(rule, text)
        if found:
            return LETTERS.index(next(filter(None, found.groups())).upper())
    return None
