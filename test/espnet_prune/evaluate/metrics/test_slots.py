import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.evaluate.metrics.slots import parse_slots, slot_type_f1, slot_value_cer

PLAY = "PLAY B-song HEY JUDE E-song BY B-artist THE BEATLES E-artist"


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        (PLAY, [("song", "HEY JUDE"), ("artist", "THE BEATLES")]),
        ("NOTHING HERE", []),
        ("", []),
        ("B-a X E-a B-a Y E-a", [("a", "X"), ("a", "Y")]),
        ("B-a X Y", []),
        ("X E-a", []),
        ("B-a E-a", []),
        ("B-a X E-b Y E-a", [("a", "X Y")]),
        ("B-a B-b X E-b", [("b", "X")]),
        ("B-a B-b X E-b E-a", [("a", "X")]),
    ],
)
def test_parsing(text, slots):
    assert parse_slots(text) == slots


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["B-a", "E-a", "B-b", "E-b", "X", "Y"]), max_size=9))
def test_parsing_agrees_with_a_regular_expression(words):
    found = re.findall(r"(?<!\S)B-(\S+) (.+?) E-\1(?!\S)", " ".join(words))
    wanted = [
        (slot, " ".join(w for w in value.split() if w[:2] not in ("B-", "E-")))
        for slot, value in found
    ]
    assert parse_slots(" ".join(words)) == wanted


def test_f1_by_hand():
    references = [PLAY, PLAY, "NO SLOT", "NO SLOT", "B-a X E-a B-a Y E-a"]
    hypotheses = [
        PLAY,  # 1
        "B-song HEY E-song B-year NOW E-year B-city ROME E-city",  # P 1/3, R 1/2: 0.4
        "NONE",  # 1
        "B-a X E-a",  # 0
        "B-a Z E-a",  # types are a set: 1
    ]
    assert slot_type_f1(references, hypotheses).value == pytest.approx((1 + 0.4 + 1 + 0 + 1) / 5)


def test_cer_by_hand():
    references = [PLAY, "B-a CAT E-a B-a DOG E-a", "NO SLOT"]
    hypotheses = [
        "B-song HAY JUDE E-song",  # 1 of 8, and all 11 of THE BEATLES
        "B-a DOGS E-a B-a CAT E-a",  # the nearest of its type: 0 of 3 and 1 of 3
        "B-a X E-a",  # a slot too many does not count
    ]
    result = slot_value_cer(references, hypotheses)
    assert (result.errors, result.reference_length) == (1 + 11 + 0 + 1, 8 + 11 + 3 + 3)
    assert result.rate == pytest.approx(13 / 25)
    assert result.low <= result.rate <= result.high


def test_errors():
    with pytest.raises(ValueError, match="1 references but 2"):
        slot_type_f1(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="hold no slot"):
        slot_value_cer(["a"], ["B-a x E-a"])
    with pytest.raises(ValueError, match="nothing to score"):
        slot_type_f1([], [])
