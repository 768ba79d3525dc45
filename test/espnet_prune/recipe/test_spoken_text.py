import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.recipe.spoken_text import cardinal, has_unclear_number, normalise_text, ordinal


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Please press 1 to mute, or 8 to exit.", "please press one to mute or eight to exit"),
        ('IAX (note: does not say "2")', "iax"),
        ("at [@]", "at"),
        ("<beep ascending>", ""),
        ("...to lock, or unlock", "to lock or unlock"),
        ("press * or #", "press star or pound"),
        (
            "o'clock, the party's ‘polite’ \"don’t call\" menu",
            "o'clock the party's polite don't call menu",
        ),
        ("10:15 A.M.", "ten fifteen a m"),
        ("visit www.asterisk.org.", "visit www dot asterisk dot org"),
        (
            "the 21st, 1,234.50 and 007",
            "the twenty first one thousand two hundred thirty four "
            "point five zero and zero zero seven",
        ),
        ("Größe 3D", "größe three d"),
        ("50% R&D", "fifty percent r and d"),
    ],
)
def test_normalise_text(text, spoken):
    assert normalise_text(text) == spoken


@given(st.text())
def test_normalised_text_is_letters_and_apostrophes_and_stays(text):
    once = normalise_text(text)
    assert normalise_text(once) == once
    assert all(char.isalpha() or char in "' " for char in once)
    assert once == " ".join(once.split())


def parse_cardinal(words):
    """The number that words stand for, by the rules of English numerals."""
    small = {cardinal(n): n for n in list(range(20)) + list(range(20, 100, 10))}
    total = group = 0
    for word in words.split():
        if word == "hundred":
            group *= 100
        elif word in ("thousand", "million", "billion"):
            total += group * {"thousand": 10**3, "million": 10**6, "billion": 10**9}[word]
            group = 0
        else:
            group += small[word]
    return total + group


@given(st.integers(0, 10**12 - 1))
def test_cardinals_can_be_read_back(number):
    assert parse_cardinal(cardinal(number)) == number


@pytest.mark.parametrize(
    ("number", "word"),
    [(1, "first"), (12, "twelfth"), (20, "twentieth"), (43, "forty third"), (100, "one hundredth")],
)
def test_ordinals(number, word):
    assert ordinal(number) == word
    assert re.fullmatch(r"[a-z ]+", word)


@pytest.mark.parametrize(
    ("text", "unclear"),
    [("press 1 or 2", False), ("dial 600", True), ("28.8 kilobit", True), ("x [12] y", False)],
)
def test_unclear_numbers(text, unclear):
    assert has_unclear_number(text) is unclear
