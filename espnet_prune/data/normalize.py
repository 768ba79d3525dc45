"""Text normalisers before scoring, for references and hypotheses alike; text as it is spoken."""

import functools
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from espnet_prune.extras import load_extra
from espnet_prune.files.reading import read_record

# Longer numbers are codes or telephone numbers, which are read digit by digit.
LONGEST_CARDINAL = 9

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "`": "'"})
_SPOKEN_SYMBOLS = str.maketrans({"%": " percent ", "&": " and "})
_THOUSANDS = re.compile(r"(?<![0-9])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])")
_DECIMAL = re.compile(r"([0-9]+)\.([0-9]+)")
_NUMBER = re.compile(r"([0-9]+)((?:st|nd|rd|th)(?![^\W\d_]))?")
_ANNOTATION = re.compile(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>")
_BETWEEN_LETTERS = re.compile(r"(?<=[^\W_])'(?=[^\W_])")
# A name before a colon, as in a play
_SPEAKER = re.compile(r"^[\W_]*[A-Z][\w .'-]{0,25}:\s*")


@functools.cache
def _inflect():
    return load_extra("inflect", "superb").engine()


def _digit_by_digit(digits: str) -> str:
    return " ".join(_inflect().number_to_words(digit) for digit in digits)


def _spell(match: re.Match) -> str:
    digits, ordinal = match[1], match[2] or ""
    if len(digits) > LONGEST_CARDINAL or (digits.startswith("0") and len(digits) > 1):
        words = _digit_by_digit(digits)
    else:
        words = _inflect().number_to_words(digits + ordinal, andword="")
    return f" {words} "


def normalize_text(text: str) -> str:
    """Lower case, numbers as English words, no punctuation, single spaces.

    - Unicode compatibility forms are unified (NFKC) and letters lower-cased.
    - Digits become words without "and": ``105`` -> "one hundred five", ``1,000`` -> "one
      thousand", ``3.5`` -> "three point five", ``21st`` -> "twenty first". A number with a leading
      zero or with more than nine digits is read digit by digit.
    - ``%`` becomes "percent" and ``&`` "and"; every other symbol and punctuation mark, the hyphen
      included, becomes a space. An apostrophe is kept between letters (``don't``).

    Normalising twice changes nothing.
    """
    text = unicodedata.normalize("NFKC", text).lower().translate(_APOSTROPHES)
    # Lower-casing may leave letters decomposed again (the Turkish capital dotted I).
    text = unicodedata.normalize("NFKC", text).translate(_SPOKEN_SYMBOLS)
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    text = _DECIMAL.sub(lambda m: f"{m[1]} point {_digit_by_digit(m[2])}", text)
    text = _NUMBER.sub(_spell, text)
    # "\0" holds the place of the apostrophes to keep.
    text = _BETWEEN_LETTERS.sub("\0", text.replace("\0", " "))
    # Letters, their combining marks and digits stay.
    text = "".join(c if c == "\0" or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return " ".join(text.replace("\0", "'").split())


def drop_annotations(text: str) -> str:
    """Text without what is in brackets, parentheses or angle brackets: it is not spoken."""
    return _ANNOTATION.sub(" ", text)


def prompt_transcript(text: str) -> str:
    """Prompt as lower-case words with single spaces between.

    Annotations in brackets are dropped, the telephone keys * and # and the full stops of an
    address are spelt out; the rest is `normalize_text`.
    """
    text = drop_annotations(text)
    # An address is read with its full stops, as in "www dot asterisk dot org".
    text = re.sub(r"\bwww\.[\w.]*\w", lambda match: match[0].replace(".", " dot "), text)
    return normalize_text(text.replace("*", " star ").replace("#", " pound "))


def has_unclear_number(text: str) -> bool:
    """Whether text has a number of several digits: 600 may be read "six hundred" or "six oh oh"."""
    return re.search(r"[0-9][.,]?[0-9]", drop_annotations(text)) is not None


def whisper_normalizer() -> Callable[[str], str]:
    """The English normaliser of Whisper's authors, in transformers' code.

    It writes numbers as digits, spells out contractions and titles, spells words the American way
    and leaves out fillers and what is in brackets (A. Radford et al., "Robust speech recognition
    via large-scale weak supervision", 2022, appendix C). WERs that are published for Whisper are
    counted on its texts.
    """
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    # transformers takes the American spellings from a model's directory; this package ships them.
    package = load_extra("whisper_normalizer", "superb")
    file = Path(package.__file__).parent / "normalizers" / "english.json"
    normalizer = EnglishTextNormalizer(read_record(file))
    return lambda text: " ".join(normalizer(text).split())


#: Name -> what makes the normaliser.
NORMALIZERS: dict[str, Callable[[], Callable[[str], str]]] = {
    "spoken": lambda: normalize_text,
    "whisper": whisper_normalizer,
}


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, with the marks that end them."""
    return re.split(r"(?<=[.!?])\s+", text)


def spoken_sentences(text: str, least: int = 4, most: int = 28) -> list[str]:
    """The sentences of a text that a voice can read and that have `least` to `most` words.

    Names of speakers before a colon and markup are cut off; sentences with digits that are unclear
    when spoken, or with letters outside ASCII, are left out.
    """
    found = []
    for line in text.replace("*", "").replace("_", " ").splitlines():
        line = _SPEAKER.sub("", line.strip()).strip('"“” ')
        line = line.replace("’", "'").replace("“", "").replace("”", "").replace("—", ", ")
        for sentence in split_sentences(line):
            sentence = sentence.strip('" ')
            ends = sentence.endswith((".", "!", "?")) and sentence.isascii()
            marked = re.search(r"[\[\](){}<>#@/\\|=+~^]", sentence)
            if ends and not marked and not has_unclear_number(sentence):
                if least <= len(prompt_transcript(sentence).split()) <= most:
                    found.append(sentence)
    return found
