"""The items of mini_spiral, as they are committed."""

from collections import Counter

import pytest

from espnet_prune.data.sir.directory import read_all_items
from espnet_prune.data.sir.questions import shuffled
from espnet_prune.data.sir.speech import cast
from espnet_prune.data.voices import NATURAL_SPEAKERS
from test.recipes.running import EGS2

RECIPE = EGS2 / "mini_spiral" / "sir1"


@pytest.fixture(scope="module")
def items():
    # raises unless each key sentence is there once
    return read_all_items(sorted((RECIPE / "items").glob("*.jsonl")))


def test_there_are_156_of_three_kinds(items):
    assert len(items) == 156
    kinds = Counter(item.kind for item in items)
    assert kinds == dict.fromkeys(("lecture", "meeting", "conversation"), 52)
    assert len({item.transcript for item in items}) == len({item.question for item in items}) == 156


def test_right_letters_are_balanced(items):
    assert all(len(item.choices) == 4 for item in items)
    assert Counter(item.answer for item in items) == dict.fromkeys(range(4), 39)


def test_letters_are_balanced_as_they_are_put(items):
    letters = Counter(shuffled(item).answer for item in items).values()
    assert len(letters) == 4 and max(letters) - min(letters) <= 20


def test_the_key_is_one_sentence(items):
    for item in items:
        assert item.key is not None and item.key[1] - item.key[0] == 1


def test_lengths_and_speakers_suit_the_voices(items):
    for item in items:
        assert 55 <= len(item.transcript.split()) / 2.6 <= 110  # words a second of these voices
        assert len(cast(item, NATURAL_SPEAKERS)) == (
            1 if item.kind == "lecture" else len({s for s, _ in item.sentences})
        )
