import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.data.text import has_unclear_number, prompt_transcript


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
def test_prompt_transcript(text, spoken):
    assert prompt_transcript(text) == spoken


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    once = prompt_transcript(text)
    assert prompt_transcript(once) == once


@pytest.mark.parametrize(
    ("text", "unclear"),
    [("press 1 or 2", False), ("dial 600", True), ("28.8 kilobit", True), ("x [12] y", False)],
)
def test_unclear_numbers(text, unclear):
    assert has_unclear_number(text) is unclear
