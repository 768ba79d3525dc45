"""The items of mini_spiral, as they are committed."""

from collections import Counter

import pytest

from espnet_prune.recipe.speech_windows import EVALUATION_VOICES
from espnet_prune.sir.data import read_all_items
from espnet_prune.sir.speech import cast
from test.recipes.running import EGS2


@pytest.fixture(scope="module")
def items():
    folder = EGS2 / "mini_spiral" / "sir1" / "items"
    return read_all_items(sorted(folder.glob("*.jsonl")))  # each key sentence is there once


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


def test_the_answer_is_in_the_key_sentence_alone(items):
    for item in items:
        assert item.key is not None and item.key[1] - item.key[0] == 1


def test_lengths_and_speakers_suit_the_voices(items):
    for item in items:
        assert 60 <= len(item.transcript.split()) / 2.6 <= 110  # words a second of these voices
        assert len(cast(item, EVALUATION_VOICES)) == (
            1 if item.kind == "lecture" else len({s for s, _ in item.sentences})
        )
