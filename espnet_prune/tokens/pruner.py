"""`TokenPruner`: a strategy and how much of it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from espnet_prune.tokens.merging import means
from espnet_prune.tokens.scores import FirstLayer
from espnet_prune.tokens.strategies import STRATEGIES, Tokens

#: of Qwen2-Audio, as in the paper: tokens of 30 s and of one
WINDOW, FRAME_TOKENS = 750, 25


@dataclass(frozen=True)
class Outcome:
    """What becomes of the N audio tokens of a recording.

    Attributes:
        kept: (K,) indices into N, in time order; of tokens that become one the first.
        groups: (N,) which of the K each token goes into, -1 for none; None where nothing merges.
    """

    kept: Tensor
    groups: Tensor | None = None

    def weights(self, n: int) -> Tensor:
        """(K, N) of which each row sums to 1: the K tokens are `weights` times the N tokens."""
        groups = self.groups
        if groups is None:
            groups = torch.full((n,), -1, device=self.kept.device)
            groups[self.kept] = torch.arange(len(self.kept), device=self.kept.device)
        parts = torch.nn.functional.one_hot(groups + 1, len(self.kept) + 1)[:, 1:].T.float()
        return parts / parts.sum(1, keepdim=True)

    def apply(self, tokens: Tensor) -> Tensor:
        """(K, D) of tokens (N, D), in their dtype."""
        if self.groups is None:
            return tokens[self.kept]
        return torch.cat([part.to(tokens.dtype) for part in means(tokens, self.groups)])


class TokenPruner:
    """Chooses the audio tokens that a speech language model gets to see.

    >>> prune = TokenPruner("uniform", rate=0.6)
    >>> prune(torch.randn(1, 10, 4))  # of 10 tokens the indices of 4
    [tensor([2, 4, 7, 9])]

    As in the paper a rate refers to the tokens of 30 s (`window`), or to all where there are fewer:
    at rate r a recording of N tokens keeps round((1 - r) min(N, window)). The strategy `none` keeps
    all N, whatever the rate.

    Args:
        strategy: key of `espnet_prune.tokens.STRATEGIES`, whose functions say what each keeps.
        rate: in [0, 1). Not together with `keep`.
        keep: absolute number of tokens, at least 1; recordings that have fewer keep all.
        window: tokens that the first phase leaves to the second, and that rates refer to. When
            absent a speech LLM of `espnet_prune.speech_llm` takes its own, else it is 750.
        frame_tokens: audio tokens a second; when absent in the same way, else 25.
        seed: of the random strategies.
    Raises:
        ValueError: an unknown strategy, a number out of its range, or a count that is no whole
            number (5.0 is none).
    """

    def __init__(
        self,
        strategy: str = "speechprune",
        rate: float | None = None,
        keep: int | None = None,
        window: int | None = None,
        frame_tokens: int | None = None,
        seed: int = 0,
    ):
        if strategy not in STRATEGIES:
            known = ", ".join(STRATEGIES)
            raise ValueError(f"token pruning: unknown strategy '{strategy}', choose from {known}")
        if rate is not None and keep is not None:
            raise ValueError("token pruning: give rate or keep, not both")
        if keep is None:
            rate = 0.0 if rate is None else rate
            check_rate(rate)
        for name, value in (("keep", keep), ("window", window), ("frame_tokens", frame_tokens)):
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            if value is not None and not (whole and value >= 1):
                wrong = f"{name} is {value!r}, but has to be a whole number, 1 or more"
                raise ValueError(f"token pruning: {wrong}")
        self.strategy, self.rate, self.keep, self.seed = strategy, rate, keep, seed
        self.window, self.frame_tokens = window or WINDOW, frame_tokens or FRAME_TOKENS
        self._given = window, frame_tokens

    def __repr__(self) -> str:
        much = f"rate={self.rate}" if self.keep is None else f"keep={self.keep}"
        return f"TokenPruner({self.strategy!r}, {much})"

    def fitted(self, window: int, frame_tokens: int) -> TokenPruner:
        """The same pruner, with a model's own window and frame_tokens where none were given."""
        fitted, (own_window, own_frame_tokens) = copy.copy(self), self._given
        fitted.window, fitted.frame_tokens = own_window or window, own_frame_tokens or frame_tokens
        return fitted

    def kept_tokens(self, n: int) -> int:
        """How many of `n` tokens stay; at least 1."""
        if self.strategy == "none":
            return n
        if self.keep is not None:
            return min(n, self.keep)
        assert self.rate is not None
        return max(1, round((1.0 - self.rate) * min(n, self.window)))

    def __call__(self, audio: Tensor, *args: Any, **options: Any) -> list[Tensor]:
        """B long tensors of indices into N, in time order, of the tokens that stay of audio (B, N,
        D): `kept` of the `outcomes`, whose arguments and errors these are."""
        return [outcome.kept for outcome in self.outcomes(audio, *args, **options)]

    @torch.no_grad()
    def outcomes(
        self,
        audio: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
        query: Tensor | None = None,
        query_lengths: Tensor | Sequence[int] | None = None,
        first_layer: FirstLayer | None = None,
        keys: Sequence[str | int] | None = None,
    ) -> list[Outcome]:
        """What becomes of the tokens of every recording.

        Args:
            audio: (B, N, D) audio tokens as the language model receives them.
            query: (B, L, D) embeddings of the query's text alone.
            lengths, query_lengths: (B,) real tokens; all of N, and of L, when absent.
            keys: (B) names of the recordings: the random strategies draw by seed and name, so that
                a recording keeps its tokens in whatever batch it is. Row numbers when absent.
        Returns: B outcomes.
        Raises:
            ValueError: something that the strategy needs is missing, shapes that do not fit, a
                recording or a query without tokens, or NaN where the strategy looks.
        """
        if audio.ndim != 3:
            raise ValueError(f"audio has the shape {tuple(audio.shape)}, but has to be (B, N, D)")
        if keys is not None and len(keys) != len(audio):
            raise ValueError(f"{len(audio)} recordings, but {len(keys)} keys")
        lengths = _lengths(lengths, audio, "recording")
        strategy, query_sizes = STRATEGIES[self.strategy], None
        if strategy.needs_query:
            if query is None:
                raise ValueError(f"strategy '{self.strategy}' needs the query's embeddings")
            if query.ndim != 3 or len(query) != len(audio):
                due = f"({len(audio)}, L, D)"
                raise ValueError(f"query has the shape {tuple(query.shape)}, but has to be {due}")
            if query.shape[-1] != audio.shape[-1]:
                raise ValueError(
                    f"audio tokens have {audio.shape[-1]} dimensions, the query's "
                    f"{query.shape[-1]}: give both as the language model receives them"
                )
            query_sizes = _lengths(query_lengths, query, "query")
        if strategy.needs_first_layer and first_layer is None:
            raise ValueError(f"strategy '{self.strategy}' needs the model's first layer")
        names = keys or range(len(audio))
        digests = (hashlib.blake2b(f"{self.seed} {name}".encode(), digest_size=7) for name in names)
        seeds = [int.from_bytes(digest.digest(), "big") for digest in digests]
        own = self.frame_tokens, self.window
        tokens = Tokens(audio, lengths, query, query_sizes, first_layer, *own, seeds)
        keep = torch.tensor([self.kept_tokens(n) for n in lengths.tolist()], device=audio.device)
        found = strategy.choose(tokens, keep)
        if not strategy.merges:
            return [Outcome(row.nonzero().squeeze(1)) for row in found]
        return [
            Outcome(_firsts(row[:n]), row[:n])
            for row, n in zip(found, lengths.tolist(), strict=True)
        ]


def _firsts(groups: Tensor) -> Tensor:
    """(K,) the first token of each group of (N,), which are numbered by these."""
    places = torch.arange(len(groups), device=groups.device)
    firsts = places.new_full((int(groups.max()) + 2,), len(groups))
    return firsts.scatter_reduce(0, groups + 1, places, "amin")[1:]


def check_rate(rate: float) -> None:
    """ValueError for a rate that is no number in [0, 1)."""
    number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if not (number and 0.0 <= rate < 1.0):
        raise ValueError(f"token pruning: rate is {rate!r}, but has to be in [0, 1)")


def _lengths(lengths: Tensor | Sequence[int] | None, tokens: Tensor, what: str) -> Tensor:
    if lengths is None:
        lengths = [tokens.shape[1]] * len(tokens)
    lengths = torch.as_tensor(lengths, dtype=torch.long, device=tokens.device)
    if lengths.shape != (len(tokens),):
        raise ValueError(f"{len(tokens)} rows, but lengths of shape {tuple(lengths.shape)}")
    if bool(((lengths < 1) | (lengths > tokens.shape[1])).any()):
        sizes = f"{int(lengths.min())} to {int(lengths.max())} tokens"
        raise ValueError(f"a {what} has {sizes}, but 1 to {tokens.shape[1]} are needed")
    return lengths
