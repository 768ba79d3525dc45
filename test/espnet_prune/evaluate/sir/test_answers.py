import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.evaluate.sir.answers import (
    Answer,
    AnswerFile,
    from_ranges,
    read_answers,
    to_ranges,
)
from espnet_prune.evaluate.sir.conditions import NOTHING, WHOLE, Condition

HEADER = {"speech_llm": "x", "seed": 0, "frame_tokens": 25}
HALF = Condition(strategy="rap", rate=0.5)


def answer(name="a", condition=WHOLE, scores=(-2.0, -1.0, -1.0)):
    return Answer(name, condition, 4.0, 100, (0, 1, 2, 7), (2, 0, 1), scores, 1)


def test_ranges():
    assert to_ranges([0, 1, 2, 7, 9, 10]) == "0-2,7,9-10"
    assert from_ranges("0-2,7,9-10") == [0, 1, 2, 7, 9, 10]
    assert to_ranges([]) == "" and from_ranges("") == []
    with pytest.raises(ValueError, match="1 comes after 1"):
        to_ranges([1, 1])
    with pytest.raises(ValueError, match="'3-' is not a range"):
        from_ranges("1,3-")
    with pytest.raises(ValueError, match="2.5 is no text of ranges"):
        from_ranges(2.5)


@given(st.sets(st.integers(0, 3000)))
def test_ranges_come_back(indices):
    assert from_ranges(to_ranges(sorted(indices))) == sorted(indices)


def test_the_first_of_the_most_likely_is_chosen():
    assert answer().chosen == 1 and answer().right
    assert answer(scores=(-1.0, -1.0, -5.0)).chosen == 0


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_name_the_item(tmp_path, wrong):
    with pytest.raises(ValueError, match="^b: under condition 'rap 0.5' the scores .* -1, .*: the"):
        answer("b", HALF, (-1.0, wrong, -2.0))
    file = tmp_path / "answers.1.jsonl"
    AnswerFile(file, HEADER).add([answer("a")])
    file.write_text(file.read_text().replace("-2.0", "NaN"))
    with pytest.raises(ValueError, match="answers.1.jsonl: .*a: under condition 'none'"):
        read_answers(tmp_path)


def test_a_stopped_file_goes_on(tmp_path):
    path = tmp_path / "answers.1.jsonl"
    file = AnswerFile(path, HEADER)
    assert not file.done
    file.add([answer("a"), answer("b", HALF)])
    whole = path.read_bytes()
    half = json.dumps(answer("c").to_json())[:40]
    path.write_bytes(whole + half.encode())  # killed while writing
    file = AnswerFile(path, HEADER)
    assert file.done == {("a", WHOLE), ("b", HALF)}
    assert path.read_bytes() == whole
    file.add([answer("c")])
    header, answers = read_answers(tmp_path)
    assert header == HEADER and answers == [answer("a"), answer("b", HALF), answer("c")]


def test_a_job_knows_what_others_have_done(tmp_path):
    AnswerFile(tmp_path / "answers.1.jsonl", HEADER).add([answer("a")])
    file = AnswerFile(tmp_path / "answers.2.jsonl", HEADER)
    assert file.done == {("a", WHOLE)}
    file.add([answer("b", NOTHING)])
    assert {a.id for a in read_answers(tmp_path)[1]} == {"a", "b"}


def test_other_inputs_are_not_mixed(tmp_path):
    AnswerFile(tmp_path / "answers.1.jsonl", HEADER).add([answer("a")])
    with pytest.raises(ValueError, match="was made with another seed; remove it"):
        AnswerFile(tmp_path / "answers.2.jsonl", {**HEADER, "seed": 1})


def test_killed_before_the_header_was_written(tmp_path):
    (tmp_path / "answers.1.jsonl").write_text('{"speech')
    assert AnswerFile(tmp_path / "answers.1.jsonl", HEADER).done == set()
    with pytest.raises(FileNotFoundError, match="no answers in it"):
        read_answers(tmp_path)


def test_a_damaged_file(tmp_path):
    path = tmp_path / "answers.1.jsonl"
    AnswerFile(path, HEADER).add([answer("a")])
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(ValueError, match="not a file of answers"):
        read_answers(tmp_path)


def test_a_range_is_bounded_before_it_is_written_out():
    with pytest.raises(ValueError, match="'0-99999999999' is beyond the 10000000 tokens"):
        from_ranges("1,0-99999999999")


def test_a_file_without_a_header_is_told(tmp_path):
    (tmp_path / "answers.all.jsonl").write_text("[1]\n{}\n")
    with pytest.raises(ValueError, match="answers.all.jsonl: not a file of answers"):
        read_answers(tmp_path)
