"""The adapter of the compact speech LLM: words with their times become audio tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from espnet_prune.speech_llm.compact.ear import Word

#: frames over which a token is spread to both sides, 0.24 s
REACH = 6
#: in the place of a token id where nothing begins
BLANK = -1


@dataclass(frozen=True)
class AdapterShape:
    """Settings of an `AudioAdapter`, whose `embed` has their equations (ValueError: a number out of
    its range)."""

    spread: float = 0.85  # in [0, 1): how much of a token is left one frame further in blanks
    contrast: float = 1.0  # at least 0: how far blanks lie from text, in means of the embeddings

    def __post_init__(self) -> None:
        if not 0.0 <= self.spread < 1.0:
            raise ValueError(f"spread is {self.spread}, but has to be in [0, 1)")
        if self.contrast < 0.0:
            raise ValueError(f"contrast is {self.contrast}, but has to be 0 or more")


def place(words: Sequence[Word], tokenizer: Any, size: int, per_token: int = 2) -> Tensor:
    """Token ids in time, (size,) long: those of a word one after another from where it begins on,
    `BLANK` elsewhere.

    A word that begins before the last one has ended waits for it; at the end of the audio words
    begin earlier instead. Tokens for which there is no room at all are left out.

    Args:
        words: of the ear.
        tokenizer: the language model's.
        size: number of audio tokens.
        per_token: encoder frames of an audio token.
    """
    ids: list[int] = []
    wanted: list[int] = []
    for word in words:
        spelt = tokenizer(f" {word.text}", add_special_tokens=False).input_ids
        first = word.frame // per_token
        wanted += range(first, first + len(spelt))
        ids += spelt
    ids, wanted = ids[:size], wanted[:size]
    at = torch.tensor(wanted, dtype=torch.long)
    steps = torch.arange(len(ids))
    at = ((at - steps).cummax(0).values if len(ids) else at) + steps
    at = torch.minimum(at, size - len(ids) + steps)
    found = torch.full((size,), BLANK)
    found[at] = torch.tensor(ids, dtype=torch.long)
    return found


class AudioAdapter(nn.Module):
    """Audio tokens of the ear's words: one learned vector, and what text tokens are.

    Args:
        outputs: size of the language model's embeddings.
        shape: see there.
    """

    def __init__(self, outputs: int, shape: AdapterShape):
        super().__init__()
        self.shape = shape
        self.blank = nn.Parameter(torch.randn(outputs) * 0.05)

    def embed(self, ids: Tensor, embeddings: Tensor) -> Tensor:
        """Audio tokens (T, D) of token ids (T,) as `place` gives them.

            S_t = E[k_t]                                                where a token k_t is said
            S_t = sum_s a_ts E[k_s] + e_blank - contrast mean_v E_v      in blanks
            a_ts = spread^|t - s| / max(1, sum_r spread^|t - r|)         |t - s|, |t - r| <= REACH

        s and r run over the frames in which tokens are said, E are the language model's
        `embeddings` (vocabulary, D), and e_blank is one learned vector. Blanks carry what is said
        around them (`spread`; without it a is 0). What all text has in common is the mean of the
        embeddings; blanks lie on its other side (`contrast`), so that they are like no query and go
        before words do.
        """
        spoken = ids != BLANK
        said = embeddings[ids.clamp(min=0)] * spoken[:, None]
        between = self.blank - self.shape.contrast * embeddings.mean(0)
        if self.shape.spread and len(ids):  # a convolution refuses an empty input
            mass = spoken.to(said)[:, None]
            near, mass = self._spread(torch.cat([said, mass], 1)).split([said.shape[1], 1], 1)
            between = near / mass.clamp_min(1.0) + between
        return torch.where(spoken[:, None], said, between.to(said))

    def _spread(self, x: Tensor) -> Tensor:
        """(T, D): the sum over frames s of spread^|t - s| x_s, |t - s| <= REACH."""
        distance = torch.arange(-REACH, REACH + 1, device=x.device).abs()
        kernel = (self.shape.spread**distance).to(x)[None, None]
        return nn.functional.conv1d(x.T[:, None], kernel, padding=REACH)[:, 0].T
