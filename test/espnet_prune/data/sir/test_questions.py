import json

import pytest

from espnet_prune.data.sir.items import SirItem
from espnet_prune.data.sir.questions import Question, read_questions, write_questions

GOOD = {"question": "When?", "choices": ["May", "June"], "answer": 1}


def write(tmp_path, *values):
    path = tmp_path / "questions"
    path.write_text("".join(f"q{n} {value}\n" for n, value in enumerate(values)))
    return path


def test_what_was_written_is_read(tmp_path):
    item = SirItem("x_1", "Wie „spät“?", ("eins", "zwei"), 1, "lecture", (("s", "A."),), (0, 1))
    write_questions(tmp_path / "questions", [item])
    assert read_questions(tmp_path / "questions") == {
        "x_1": Question("x_1", "Wie „spät“?", ("eins", "zwei"), 1)
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": " "}, "q1: the question has no text"),
        ({"question": None}, "q1: the question is None, but has to be text"),
        ({"choices": "May"}, "q1: what is to choose from is 'May', but has to be a list"),
        ({"choices": {"A": "May", "B": "June"}}, "but has to be a list"),
        ({"choices": ["May", None]}, "a choice is None, but has to be text"),
        ({"choices": ["May"]}, "q1: 1 choices; 2 to 8"),
        ({"choices": ["May", ""]}, "with a text are needed"),
        ({"choices": ["May", " May"]}, "q1: two choices are the same"),
        ({"answer": 2}, "q1: the answer is 2, but has to be 0 to 1"),
        ({"answer": "May"}, "the answer is 'May'"),
    ],
)
def test_what_is_no_question(tmp_path, change, message):
    path = write(tmp_path, json.dumps(GOOD), json.dumps({**GOOD, **change}))
    with pytest.raises(ValueError, match=message):
        read_questions(path)


def test_missing_keys_and_damaged_lines(tmp_path):
    with pytest.raises(ValueError, match="q0: key 'choices' is missing"):
        read_questions(write(tmp_path, '{"question": "a", "answer": 0}'))
    with pytest.raises(ValueError, match="q0: not JSON"):
        read_questions(write(tmp_path, "{"))
    with pytest.raises(ValueError, match="no questions in it"):
        read_questions(write(tmp_path))
    with pytest.raises(FileNotFoundError):
        read_questions(tmp_path / "absent")
