"""English text as it is spoken: lower case, letters and apostrophes, numbers spelt out."""

from __future__ import annotations

import re
import unicodedata

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_SYMBOLS = {"*": " star ", "#": " pound ", "&": " and ", "%": " percent ", "’": "'", "‘": "'"}
_ANNOTATION = re.compile(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>")


def drop_annotations(text: str) -> str:
    """Text without what is in brackets, parentheses or angle brackets: it is not spoken."""
    return _ANNOTATION.sub(" ", text)


def cardinal(number: int) -> str:
    """An integer from 0 in words: 142 is "one hundred forty two"."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f" {_ONES[ones]}" if ones else "")
    scale, name = next(entry for entry in _SCALES if entry[0] <= number)
    high, low = divmod(number, scale)
    return f"{cardinal(high)} {name}" + (f" {cardinal(low)}" if low else "")


def ordinal(number: int) -> str:
    """An integer from 0 as an ordinal number in words: 12 is "twelfth"."""
    *before, last = cardinal(number).split()
    if last in _ORDINALS:
        last = _ORDINALS[last]
    else:
        last = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return " ".join([*before, last])


def _spell(match: re.Match[str]) -> str:
    whole, fraction, suffix = match["whole"].replace(",", ""), match["fraction"], match["suffix"]
    if len(whole) > 12 or (len(whole) > 1 and whole[0] == "0"):
        words = " ".join(_ONES[int(digit)] for digit in whole)  # 007, or a telephone number
    else:
        words = ordinal(int(whole)) if suffix and not fraction else cardinal(int(whole))
    if fraction:
        words += " point " + " ".join(_ONES[int(digit)] for digit in fraction)
    return f" {words} "


_NUMBER = re.compile(
    r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.(?P<fraction>[0-9]+))?(?P<suffix>st|nd|rd|th)?"
)


def normalise_text(text: str) -> str:
    """Text as words of lower-case letters and apostrophes, with single spaces between.

    Annotations in brackets are dropped, numbers and the signs * # & % are spelt out, hyphens and
    other signs separate words. For references and hypotheses alike.
    """
    text = drop_annotations(unicodedata.normalize("NFKC", text)).lower()
    # An address is read with its full stops, as in "www dot asterisk dot org".
    text = re.sub(r"\bwww\.[\w.]*\w", lambda match: match[0].replace(".", " dot "), text)
    text = _NUMBER.sub(_spell, text)
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    text = "".join(char if char.isalpha() or char == "'" else " " for char in text)
    words = (word.strip("'") for word in text.split())
    return " ".join(word for word in words if word)


def has_unclear_number(text: str) -> bool:
    """Whether text has a number of several digits: 600 may be read "six hundred" or "six oh oh"."""
    return re.search(r"[0-9][.,]?[0-9]", drop_annotations(text)) is not None
