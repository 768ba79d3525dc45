"""Pieces: the tokens of the language model that the adapter spells words with.

A byte-pair tokenizer has a token for every common word, and an adapter learns such a token from
that word alone: it has to hear the word dozens of times, and never writes one that it has not
heard. The first merges of the tokenizer's table alone give tokens of few letters, from which every
word can be spelled. They are the language model's own, so that it has embeddings for them.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from espnet_prune.data.data_dir import read_table
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_bytes, write_text
from espnet_prune.speech_llm.compact.model import (
    load_language_model,
    lora_parameters,
    read_compact,
    with_lora,
)


@dataclass(frozen=True)
class Pieces:
    """The first `merges` of the table (0: all, or there is no such table), and the ids of the
    tokens that occur in the training text, ascending."""

    merges: int
    token_ids: tuple[int, ...]

    def to_json(self) -> str:
        return json.dumps({"merges": self.merges, "token_ids": self.token_ids}) + "\n"

    @classmethod
    def load(cls, path: str | Path) -> Pieces:
        """Read a file with the text of `to_json` (ValueError: it holds something else)."""
        found = read_record(path, ("merges", "token_ids"))
        try:
            return cls(int(found["merges"]), tuple(map(int, found["token_ids"])))
        except (ValueError, TypeError) as error:
            what = "not a file of `espnet-prune compact tokens`"
            raise ValueError(f"{path}: {what}: {error!r}") from None


def load_tokenizer(language_model: str | Path) -> Any:
    """The tokenizer in a directory of a language model (FileNotFoundError: no such directory)."""
    from transformers import AutoTokenizer

    if not Path(language_model).is_dir():
        raise FileNotFoundError(f"{language_model}: no such directory")
    return AutoTokenizer.from_pretrained(language_model, trust_remote_code=False)


def piece_tokenizer(tokenizer: Any, merges: int) -> Tokenizer:
    """A fast tokenizer of `transformers` with the first `merges` of its byte-pair table only; 0 for
    all (ValueError: a negative number, or there is no such table)."""
    if merges < 0:
        raise ValueError(f"merges is {merges}, but has to be 0 (all) or more")
    table = json.loads(tokenizer.backend_tokenizer.to_str())
    if merges and table["model"].get("type") != "BPE":
        raise ValueError(f"merges is {merges}, but the language model has no byte-pair tokenizer")
    if merges:
        table["model"]["merges"] = table["model"]["merges"][:merges]
    return Tokenizer.from_str(json.dumps(table))


def spell(pieces: Tokenizer, text: str) -> list[int]:
    """Token ids of a text, as after a blank."""
    return pieces.encode(f" {text}", add_special_tokens=False).ids


def find_pieces(tokenizer: Any, merges: int, texts: Iterable[str]) -> tuple[Pieces, Counter[int]]:
    """The pieces of a training text, and how often each occurs."""
    cut = piece_tokenizer(tokenizer, merges)
    counts = Counter(number for text in texts for number in spell(cut, text))
    return Pieces(merges, tuple(sorted(counts))), counts


def write_pieces(language_model: Path, words: Path, merges: int, output: Path) -> str:
    """Write the pieces of a training text, the table `words`, as JSON.

    Returns how many there are and how often they occur, in words. FileNotFoundError, ValueError: no
    such table or language model; as `piece_tokenizer`.
    """
    texts = list(read_table(words).values())
    pieces, counts = find_pieces(load_tokenizer(language_model), merges, texts)
    write_text(output, pieces.to_json())
    if not counts:
        return f"{output}: no words"
    number = max(sum(len(text.split()) for text in texts), 1)
    return (
        f"{output}: {len(pieces.token_ids)} tokens, {counts.total() / number:.2f} of them a word; "
        f"half of them occur {sorted(counts.values())[len(counts) // 2]} times or more"
    )


def write_start(model: Path, language_model: Path, merges: int, pieces: Path, weights: Path) -> str:
    """Write what training the LoRA of an existing compact speech LLM further begins with.

    Arguments are the options of `espnet-prune compact start`. Returns how many weights there are
    (FileNotFoundError, ValueError: the model is missing, damaged, or another language model's).
    """
    config, found = read_compact(model)
    state = {name: t.float() for name, t in found.items() if name.startswith("adapter.")}
    lm, _ = load_language_model(language_model)
    lora = lora_parameters(with_lora(lm, config.lora_rank, config.lora_alpha))
    for number, name in enumerate(lora):  # as SpeechLoraModel holds them
        if f"lora.{name}" not in found:
            raise ValueError(f"{model}: lora.{name} is missing; is {language_model} the model's?")
        state[f"lora.{number}"] = found[f"lora.{name}"].float()
    write_text(pieces, Pieces(merges, config.token_ids).to_json())
    data = io.BytesIO()  # not to the file itself: torch.save writes its name into it
    torch.save(state, data)
    write_bytes(weights, data.getvalue())
    return f"{weights}: {sum(t.numel() for t in state.values()) / 1e6:.1f} million weights"
