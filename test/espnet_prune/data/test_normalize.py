import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_prune.data.normalize import has_unclear_number, normalize_text, prompt_transcript


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,  WORLD!", "hello world"),
        ("Don\u2019t say 'no'.", "don't say no"),
        ("dogs' o'clock", "dogs o'clock"),
        ("A'_ _'b", "a b"),  # an underscore is no letter
        ("Press 1, then 20.", "press one then twenty"),
        ("105 and 1,234", "one hundred five and one thousand two hundred thirty four"),
        ("1,000,000", "one million"),
        ("3.50", "three point five zero"),
        ("the 1st, 2nd, 3rd and 21st", "the first second third and twenty first"),
        ("007 0", "zero zero seven zero"),
        ("1234567890", "one two three four five six seven eight nine zero"),
        ("1990s, 4thly", "one thousand nine hundred ninety s four thly"),
        ("h2o", "h two o"),
        ("twenty-one", "twenty one"),
        ("5% & more", "five percent and more"),
        ("10:30 a.m.", "ten thirty a m"),
        ("ça va, Straße", "ça va straße"),
        ("re\u0301sume\u0301", "r\u00e9sum\u00e9"),
        ("\u4f60\u597d\uff0c\uff11", "\u4f60\u597d one"),
        ("...", ""),
        ("", ""),
    ],
)
def test_examples(text, expected):
    assert normalize_text(text) == expected


def test_digits_and_words_meet():
    assert normalize_text("Press 1 or 22.") == normalize_text("press one, or twenty-two")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_result_is_a_fixed_point_of_single_spaced_words(text):
    once = normalize_text(text)
    assert normalize_text(once) == once
    assert once == " ".join(once.split())
    assert not set(once) & set('0123456789.,!?-"%&\0')


@settings(max_examples=100, deadline=None)
@given(st.from_regex(r"[0-9]{1,60}(st|nd|rd|th)?", fullmatch=True))
def test_every_number_is_spelt_out(text):
    words = normalize_text(text)
    assert words and not any(character.isdigit() for character in words)


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
