"""Slot-type F1 and slot-value CER of slot filling, by SUPERB's definition.

A transcript marks a slot by words before and after its value: ``PLAY B-artist ELLA FITZGERALD
E-artist``. The definitions are those that s3prl's scores follow.
"""

from collections.abc import Sequence

import numpy as np

from espnet_prune.evaluate.metrics.bootstrap import Estimate, ratio_of_sums
from espnet_prune.evaluate.metrics.error_rate import ErrorRate, count_errors, pairs, rate_of

_BEGIN, _END = "B-", "E-"


def parse_slots(text: str) -> list[tuple[str, str]]:
    """(type, value) of the slots in a transcript, in order.

    A slot reaches from ``B-type`` to the next ``E-type`` that is not right behind it; marks of
    other slots between the two are left out of the value, and marks without a partner are no slot.
    """
    words = text.split()
    slots = []
    position = 0
    while position < len(words):
        word = words[position]
        slot = word[len(_BEGIN) :] if word.startswith(_BEGIN) else ""
        position += 1
        if slot and _END + slot in words[position + 1 :]:
            end = words.index(_END + slot, position + 1)
            value = [w for w in words[position:end] if not w.startswith((_BEGIN, _END))]
            slots.append((slot, " ".join(value)))
            position = end + 1
    return slots


def slot_type_f1(references: Sequence[str], hypotheses: Sequence[str]) -> Estimate:
    """The mean over utterances of F1 between the sets of slot types, as a fraction.

    An utterance without slots in reference and hypothesis has 1, one with slots in only one of
    the two has 0. Different numbers of transcripts, or none, are a ValueError.
    """
    scores = []
    for pair in pairs(references, hypotheses):
        wanted, given = ({slot for slot, _ in parse_slots(text)} for text in pair)
        total = len(wanted) + len(given)
        scores.append(2 * len(wanted & given) / total if total else 1.0)
    values = np.array(scores)
    return ratio_of_sums(values, np.ones_like(values))


def slot_value_cer(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRate:
    """Character errors in the values of the reference's slots over their characters.

    Each value is compared with the nearest of the hypothesised values of its type, or with
    nothing if there is none. Slots that only the hypothesis has do not count (F1 sees them).

    Raises:
        ValueError: different numbers of transcripts, or a reference without any slot.
    """
    utterance, values, candidates, owner = [], [], [], []
    for number, pair in enumerate(pairs(references, hypotheses)):
        true, found = map(parse_slots, pair)
        for slot, value in true:
            same = [guess for other, guess in found if other == slot] or [""]
            owner += [len(utterance)] * len(same)
            utterance.append(number)
            values += [value] * len(same)
            candidates += same
    if not utterance:
        raise ValueError("the references hold no slot, marked 'B-type value E-type'")
    counts = count_errors(values, candidates, unit="char")
    least = np.full(len(utterance), np.iinfo(np.int64).max)
    np.minimum.at(least, owner, counts.errors)
    length = np.zeros(len(utterance), dtype=np.int64)
    length[owner] = counts.reference_length
    sums = (np.bincount(utterance, each, len(references)) for each in (least, length))
    return rate_of(*(each.astype(np.int64) for each in sums))
