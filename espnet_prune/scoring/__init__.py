"""Word and character error rates with confidence intervals; the text normalisation before them."""

from espnet_prune.scoring.error_rate import (
    ErrorCounts,
    ErrorRate,
    ErrorRateDifference,
    count_errors,
    error_rate,
    error_rate_difference,
)
from espnet_prune.scoring.normalize import normalize_text

__all__ = [
    "ErrorCounts",
    "ErrorRate",
    "ErrorRateDifference",
    "count_errors",
    "error_rate",
    "error_rate_difference",
    "normalize_text",
]
