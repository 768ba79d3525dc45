"""The items of mini_spiral, as they are committed."""

import re
from collections import Counter

import pytest

from espnet_prune.data.sir.directory import read_all_items, spread
from espnet_prune.data.sir.questions import shuffled
from espnet_prune.data.sir.speech import cast
from espnet_prune.data.voices import EVALUATION_VOICES
from test.recipes.running import EGS2

RECIPE = EGS2 / "mini_spiral" / "sir1"


@pytest.fixture(scope="module")
def items():
    # raises unless each key sentence is there once
    return read_all_items(sorted((RECIPE / "items").glob("*.jsonl")))


def test_there_are_84_of_three_kinds(items):
    assert len(items) == 84
    assert Counter(item.kind for item in items) == {
        "lecture": 28,
        "meeting": 28,
        "conversation": 28,
    }
    assert len({item.transcript for item in items}) == len({item.question for item in items}) == 84


def test_right_letters_are_balanced(items):
    assert all(len(item.choices) == 4 for item in items)
    assert Counter(item.answer for item in items) == dict.fromkeys(range(4), 21)


def test_what_the_recipe_takes_is_balanced(items):
    run = (RECIPE / "run.sh").read_text()
    (number,) = re.findall(r"--test_sets mini_spiral --local_data_opts .--items (\d+)", run)
    some = spread(items, int(number))
    assert len(some) >= 60 and len(set(Counter(item.kind for item in some).values())) == 1
    for order in (some, [shuffled(item) for item in some]):
        letters = Counter(item.answer for item in order).values()
        assert len(letters) == 4 and max(letters) - min(letters) <= 2


def test_the_key_is_one_sentence(items):
    for item in items:
        assert item.key is not None and item.key[1] - item.key[0] == 1


def test_lengths_and_speakers_suit_the_voices(items):
    for item in items:
        assert 60 <= len(item.transcript.split()) / 2.6 <= 110  # words a second of these voices
        assert len(cast(item, EVALUATION_VOICES)) == (
            1 if item.kind == "lecture" else len({s for s, _ in item.sentences})
        )
