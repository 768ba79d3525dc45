import pytest

from espnet_prune.data.sir.recorded import lettered, place_of_answer


def test_choices_with_letters():
    assert lettered("(A) A bike;\n(B) A lock;\n(C) At 6 a.m. (B) or so") == [
        "A bike",
        "A lock",
        "At 6 a.m. (B) or so",
    ]
    assert lettered("A. red\nB) green") == ["red", "green"]
    for wrong in ("red\ngreen", "(A) red\n(C) green", "Choices:\n(A) red\n(B) green", ""):
        with pytest.raises(ValueError, match="have to be '\\(A\\) …'"):
            lettered(wrong)


@pytest.mark.parametrize(
    ("answer", "place"), [("(B) 4;", 1), ("4", 1), ("C", 2), ("(A)", 0), ("A. 3", 0), (" 5 ", 2)]
)
def test_an_answer_by_its_letter_its_text_or_both(answer, place):
    assert place_of_answer(answer, ["3", "4", "5"]) == place


@pytest.mark.parametrize("answer", ["(A) 4", "D", "", "6", "(B) 4 or 5"])
def test_answers_that_are_none(answer):
    with pytest.raises(ValueError, match="is not among the choices"):
        place_of_answer(answer, ["3", "4", "5"])
