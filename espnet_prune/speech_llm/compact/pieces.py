"""What an adapter spells words with: tokens of the language model that stand for many words.

A byte-pair tokenizer has a token for every common word, and an adapter learns such a token from
that word alone: it has to hear the word dozens of times, and never writes one that it has not
heard. The first merges of the tokenizer's table alone give tokens of few letters, from which every
word can be spelled. They are the language model's own, so that it has embeddings for them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer


@dataclass(frozen=True)
class Pieces:
    """
    Attributes:
        merges: how many of the table are used; 0 for all, or where there is no such table.
        token_ids: of the tokens that occur in the training text, ascending.
    """

    merges: int
    token_ids: tuple[int, ...]

    def to_json(self) -> str:
        return json.dumps({"merges": self.merges, "token_ids": self.token_ids}) + "\n"

    @classmethod
    def load(cls, path: str | Path) -> Pieces:
        """Read a file with the text of `to_json`.

        Raises:
            FileNotFoundError, ValueError: no such file; something else is in it.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(int(found["merges"]), tuple(map(int, found["token_ids"])))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{path}: not a file of python -m espnet_prune.bin.speech_llm_tokens: {error!r}"
            ) from None


def piece_tokenizer(tokenizer, merges: int) -> Tokenizer:
    """A fast tokenizer of `transformers` with the first `merges` of its byte-pair table only.

    Args:
        merges: 0 for the tokenizer as it is.
    Raises:
        ValueError: `merges` is negative, or not 0 and the tokenizer has no such table.
    """
    if merges < 0:
        raise ValueError(f"merges is {merges}, but has to be 0 (all) or more")
    whole = tokenizer.backend_tokenizer.to_str()
    if not merges:
        return Tokenizer.from_str(whole)
    table = json.loads(whole)
    if table["model"].get("type") != "BPE":
        raise ValueError(f"merges is {merges}, but the language model has no byte-pair tokenizer")
    table["model"]["merges"] = table["model"]["merges"][:merges]
    return Tokenizer.from_str(json.dumps(table))


def spell(pieces: Tokenizer, text: str) -> list[int]:
    """Token ids of a text, as after a blank."""
    return pieces.encode(f" {text}", add_special_tokens=False).ids


def find_pieces(tokenizer, merges: int, texts: Iterable[str]) -> tuple[Pieces, Counter[int]]:
    """The pieces of a training text, and how often each occurs."""
    cut = piece_tokenizer(tokenizer, merges)
    counts: Counter[int] = Counter()
    for text in texts:
        counts.update(spell(cut, text))
    return Pieces(merges, tuple(sorted(counts))), counts
