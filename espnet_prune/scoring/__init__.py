"""What systems are scored by, with bootstrap confidence intervals; text normalisation before it.

Error rates of words, characters and phones, accuracy, EER, term-weighted values, slot-type F1 and
slot-value CER, and the SUPERB score. DER is in `espnet_prune.scoring.diarization` and the plot in
`espnet_prune.scoring.superb_plot`: scipy and matplotlib take their time to load.
"""

from espnet_prune.scoring.accuracy import accuracy, correct
from espnet_prune.scoring.bootstrap import Estimate
from espnet_prune.scoring.error_rate import (
    ErrorCounts,
    ErrorRate,
    ErrorRateDifference,
    count_errors,
    error_rate,
    error_rate_difference,
)
from espnet_prune.scoring.normalize import normalize_text
from espnet_prune.scoring.slots import parse_slots, slot_type_f1, slot_value_cer
from espnet_prune.scoring.superb import SuperbScore, superb_score
from espnet_prune.scoring.term_weighted_value import (
    actual_term_weighted_value,
    maximum_term_weighted_value,
)
from espnet_prune.scoring.verification import equal_error_rate

__all__ = [
    "ErrorCounts",
    "ErrorRate",
    "ErrorRateDifference",
    "Estimate",
    "SuperbScore",
    "accuracy",
    "actual_term_weighted_value",
    "correct",
    "count_errors",
    "equal_error_rate",
    "error_rate",
    "error_rate_difference",
    "maximum_term_weighted_value",
    "normalize_text",
    "parse_slots",
    "slot_type_f1",
    "slot_value_cer",
    "superb_score",
]
