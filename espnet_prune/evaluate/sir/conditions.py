"""Under which conditions questions are answered: what the model gets of a recording."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from espnet_prune.tokens import TokenPruner

#: what stands in the place of audio: its tokens, those of its transcript, those of the words that
#: the model's own recogniser hears, or nothing
INPUTS = ("speech", "transcript", "heard", "nothing")


@dataclass(frozen=True)
class Condition:
    """One cell of a table.

    Attributes:
        input: one of `INPUTS`.
        strategy: of a `TokenPruner`; `none` where the input is not speech.
        rate: None for the strategy `none`, or with `keep`.
        keep: absolute number of tokens, or None.
    """

    input: str = "speech"
    strategy: str = "none"
    rate: float | None = None
    keep: int | None = None

    @property
    def name(self) -> str:
        """Short and unique: "speechprune 0.2", "rap 150 tokens", "none", "transcript"."""
        if self.input != "speech":
            return self.input
        if self.keep is not None:
            return f"{self.strategy} {self.keep} tokens"
        return self.strategy if self.rate is None else f"{self.strategy} {self.rate:g}"


#: the whole recording, the paper's "Original" (the first 30 s), the two bounds, and between them
#: the words of the model's own recogniser
WHOLE = Condition()
FIRST_30_S = Condition(strategy="crop", rate=0.0)
TRANSCRIPT = Condition("transcript")
HEARD = Condition("heard")
NOTHING = Condition("nothing")
REFERENCES = (WHOLE, FIRST_30_S, TRANSCRIPT, HEARD, NOTHING)


def single(strategy: str, conf: Mapping) -> Condition:
    """The condition of one pruner; errors as of `TokenPruner`."""
    found = TokenPruner(strategy, **_checked(conf))
    if strategy == "none":
        return WHOLE
    rate = None if found.rate is None else float(found.rate)
    return Condition(strategy=strategy, rate=rate, keep=found.keep)


def grid(
    strategies: Sequence[str], rates: Sequence[float], recognises: bool = False
) -> list[Condition]:
    """Every strategy at every rate, after the whole recording, its first 30 s, and the bounds.

    Args:
        recognises: whether the speech LLM does, see `SpeechLLM.recognises`.
    Raises:
        ValueError: an unknown strategy, a rate outside [0, 1), or none given.
    """
    if not strategies or not rates:
        raise ValueError("a grid needs one strategy and one rate at least")
    references = [c for c in REFERENCES if recognises or c != HEARD]
    pairs = itertools.product(strategies, rates)
    chosen = [single(strategy, {"rate": rate}) for strategy, rate in pairs]
    return list(dict.fromkeys(references + chosen))


def pruner(condition: Condition, conf: Mapping) -> TokenPruner:
    """The pruner of a condition; errors as of `TokenPruner`, and for an unknown key.

    Args:
        conf: `token_pruner_conf`: all but rate and keep is taken from it.
    """
    chosen = {"rate": condition.rate, "keep": condition.keep}
    return TokenPruner(condition.strategy, **{**_checked(conf), **chosen})


def _checked(conf: Mapping) -> Mapping:
    known = "rate", "keep", "window", "frame_tokens", "seed"
    for key in sorted(conf.keys() - known):
        choices = ", ".join(known)
        raise ValueError(f"token_pruner_conf: unknown key '{key}', choose from {choices}")
    return conf
