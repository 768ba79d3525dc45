"""Which letter an answer says, by hand."""

import pytest

from espnet_prune.evaluate.sir.protocols import PROMPTS, check_protocol, letter_said


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b.", "B"),
        ("(C) the red one", "C"),
        ("**D**", "D"),
        ("A: a green team, not B", "A"),
        ("The answer is A", "A"),
        ("Answer: C", "C"),
        ("the right option is (B), not (A)", "B"),
        ("A red team wins, so C", "C"),
        ("I choose A, of course", "A"),
        ("It is B because they say so", "B"),
        ("A red team wins", None),
        ("E", None),  # of four choices
        ("the red team", None),
        ("DBA", None),
        ("", None),
    ],
)
def test_letters(text, letter):
    assert letter_said(text, 4) == (None if letter is None else "ABCD".index(letter))


def test_the_number_of_choices_says_which_letters_there_are():
    assert letter_said("C", 3) == 2 and letter_said("C", 2) is None


def test_what_cannot_be_asked_is_refused():
    for protocol, prompt in PROMPTS.items():
        check_protocol(protocol, prompt)
    with pytest.raises(ValueError, match="protocol is 'guess', choose from likelihood, letter"):
        check_protocol("guess", "{question}")
    with pytest.raises(ValueError, match="prompt is '{question}', but has to have {choices} in it"):
        check_protocol("letter", "{question}")
