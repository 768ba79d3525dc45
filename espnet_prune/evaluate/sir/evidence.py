"""How much of the evidence survives token pruning: the key sentence's tokens among those kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from espnet_prune.data.sir.span import Span


def token_span(span: Span, frame_tokens: float, tokens: int) -> tuple[int, int]:
    """Numbers of the tokens that overlap a span, [first, last + 1), of a recording of `tokens`.

    Args:
        frame_tokens: tokens a second.
    Raises:
        ValueError: the span begins after the recording.
    """
    # 1e-6 of a token: times are written with a limited number of digits
    first = math.floor(span.start * frame_tokens + 1e-6)
    end = math.ceil(span.end * frame_tokens - 1e-6)
    if first >= tokens:
        raise ValueError(
            f"the key sentence begins at {span.start:g} s, but the recording ends at "
            f"{tokens / frame_tokens:g} s"
        )
    return first, min(max(end, first + 1), tokens)


def evidence_recall(
    kept: Tensor | Sequence[int], span: Span, frame_tokens: float, tokens: int
) -> float:
    """The share of the key sentence's tokens that are kept, in [0, 1].

    Args:
        kept: numbers of the kept tokens of a recording of `tokens` audio tokens.
    """
    first, end = token_span(span, frame_tokens, tokens)
    numbers = kept.tolist() if isinstance(kept, Tensor) else list(kept)
    return sum(first <= number < end for number in numbers) / (end - first)
