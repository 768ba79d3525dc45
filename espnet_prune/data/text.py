"""Transcripts of prompts as they are spoken; numbers and signs by `normalize_text`."""

from __future__ import annotations

import re

from espnet_prune.data.normalize import normalize_text

_ANNOTATION = re.compile(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>")


def drop_annotations(text: str) -> str:
    """Text without what is in brackets, parentheses or angle brackets: it is not spoken."""
    return _ANNOTATION.sub(" ", text)


def prompt_transcript(text: str) -> str:
    """Prompt as lower-case words with single spaces between.

    Annotations in brackets are dropped, the telephone keys * and # and the full stops of an
    address are spelt out; the rest is `normalize_text`.
    """
    text = drop_annotations(text)
    # An address is read with its full stops, as in "www dot asterisk dot org".
    text = re.sub(r"\bwww\.[\w.]*\w", lambda match: match[0].replace(".", " dot "), text)
    return normalize_text(text.replace("*", " star ").replace("#", " pound "))


def has_unclear_number(text: str) -> bool:
    """Whether text has a number of several digits: 600 may be read "six hundred" or "six oh oh"."""
    return re.search(r"[0-9][.,]?[0-9]", drop_annotations(text)) is not None
