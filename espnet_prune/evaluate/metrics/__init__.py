"""What systems are scored by, with bootstrap confidence intervals.

Error rates of words, characters and phones, accuracy, EER, term-weighted values, slot-type F1 and
slot-value CER. DER is in `diarization`, which needs pyannote.metrics.
"""

from espnet_prune.evaluate.metrics.accuracy import accuracy, correct
from espnet_prune.evaluate.metrics.bootstrap import Estimate
from espnet_prune.evaluate.metrics.error_rate import (
    ErrorCounts,
    ErrorRate,
    ErrorRateDifference,
    count_errors,
    error_rate,
    error_rate_difference,
)
from espnet_prune.evaluate.metrics.slots import parse_slots, slot_type_f1, slot_value_cer
from espnet_prune.evaluate.metrics.term_weighted_value import (
    actual_term_weighted_value,
    maximum_term_weighted_value,
)
from espnet_prune.evaluate.metrics.verification import equal_error_rate

__all__ = [
    "ErrorCounts",
    "ErrorRate",
    "ErrorRateDifference",
    "Estimate",
    "accuracy",
    "actual_term_weighted_value",
    "correct",
    "count_errors",
    "equal_error_rate",
    "error_rate",
    "error_rate_difference",
    "maximum_term_weighted_value",
    "parse_slots",
    "slot_type_f1",
    "slot_value_cer",
]
