import json
from collections import Counter
from pathlib import Path

import pytest

from espnet_prune.data.sir.items import read_items
from espnet_prune.data.sir.questions import shuffled, write_questions

SHARED = Path(__file__).resolve().parents[5] / "shared" / "data" / "spiral_dev.jsonl"


def row(**changes):
    base = {
        "transcript": [
            {"speaker": "spk_1", "text": ["Good morning.", "The bridge opened in May."]},
            {"speaker": "spk_2", "text": ["I thought it was June."]},
        ],
        "original_key_sentence": "The bridge opened in May.",
        "test_question": {
            "question": "When did the bridge open?",
            "choices": ["A. June", "B. May", "C. March", "D. July"],
            "correct_answer": "B. May",
        },
        "metadata": {"transcript_type": "conversation", "id": "conversation_1"},
    }
    base.update(changes)
    return base


def write(tmp_path, *rows):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
    return path


def asked(**changes):
    return row(test_question={**row()["test_question"], **changes})


def test_an_item(tmp_path):
    (item,) = read_items(write(tmp_path, row()))
    assert item.choices == ("June", "May", "March", "July") and item.answer == 1
    assert item.sentences[2] == ("spk_2", "I thought it was June.") and item.key == (1, 2)
    assert item.transcript == "Good morning. The bridge opened in May. I thought it was June."


def test_white_space_in_sentences_becomes_blanks(tmp_path):
    turns = [{"speaker": "a", "text": [" Good\nmorning.\t", "The  bridge opened\r\nin May."]}]
    (item,) = read_items(write(tmp_path, row(transcript=turns)))
    assert [text for _, text in item.sentences] == ["Good morning.", "The bridge opened in May."]
    with pytest.raises(ValueError, match="a sentence of it is empty"):
        read_items(write(tmp_path, row(transcript=[{"speaker": "a", "text": ["\n"]}])))


@pytest.mark.parametrize("key", ["No.", "The bridge", None])
def test_a_key_that_is_not_found_once_matters_where_it_is_asked_for(tmp_path, key):
    turns = [{"speaker": "a", "text": ["The bridge opened.", "The bridge is red."]}]
    changed = row(transcript=turns, original_key_sentence=key)
    if key is None:
        del changed["original_key_sentence"]
    path = write(tmp_path, row(metadata={"id": "good"}), changed)
    with pytest.raises(ValueError, match="line 2: .*(key sentence is [02] times|is missing)"):
        read_items(path)
    good, item = read_items(path, keys=False)
    assert good.key == (1, 2) and item.key is None and item.answer == 1


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("Good morning. The bridge opened in May.", (0, 2)),
        ("the bridge opened", (1, 2)),
        ("In May! I thought", (1, 3)),
    ],
)
def test_a_key_may_be_a_part_of_a_sentence_or_of_several(tmp_path, key, where):
    assert read_items(write(tmp_path, row(original_key_sentence=key)))[0].key == where


@pytest.mark.parametrize(("correct", "answer"), [("B", 1), ("D.", 3), ("July", 3), ("C. March", 2)])
def test_ways_to_name_the_right_choice(tmp_path, correct, answer):
    (item,) = read_items(write(tmp_path, asked(correct_answer=correct)))
    assert item.answer == answer


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{half\n"], "line 1: not JSON"),
        ([row(metadata={})], "line 1: key 'id' is missing"),
        ([row(), row()], "line 2: id 'conversation_1' is there twice"),
        ([row(metadata={"id": "a b"})], "id 'a b' cannot be a file's name"),
        ([asked(question=" ")], "conversation_1: the question has no text"),
        (
            [asked(question=None)],
            "line 1: conversation_1: the question is None, but has to be text",
        ),
        ([asked(choices=["May", None])], "a choice is None, but has to be text"),
        ([asked(choices={"A": "May", "B": "June"})], "but has to be a list"),
        ([asked(correct_answer=None)], "the answer is None"),
        ([row(metadata={"id": None})], "the id is None"),
        ([row(transcript=[{"speaker": "s", "text": [None]}])], "a sentence is None"),
        ([row(transcript=[{"speaker": "s", "text": "May."}])], "a turn's text is 'May.'"),
        ([asked(choices=[])], "0 choices"),
        ([asked(choices=["A. May", "B. May"])], "two choices are the same"),
        ([asked(correct_answer="E. April")], "'E. April' is not among the choices"),
        ([row(original_key_sentence="No.")], "the key sentence is 0 times"),
        ([row(original_key_sentence=".")], "the key sentence is 0 times"),
        ([row(transcript=[])], "a transcript or a sentence of it is empty"),
        ([], "no items"),
    ],
)
def test_rows_that_are_no_items(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message) as error:
        read_items(write(tmp_path, *rows))
    assert "data.jsonl" in str(error.value)


def test_a_row_without_choices(tmp_path):
    changed = row()
    del changed["test_question"]["choices"]
    with pytest.raises(ValueError, match="line 1: conversation_1: key 'choices' is missing"):
        read_items(write(tmp_path, changed))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl: no such file"):
        read_items(tmp_path / "none.jsonl")


def test_shuffling_keeps_the_answer_and_is_fair(tmp_path):
    names = [f"i{n}" for n in range(2000)]
    items = read_items(write(tmp_path, *(row(metadata={"id": n}) for n in names)))
    mixed = [shuffled(item, seed=3) for item in items]
    assert all(m.choices[m.answer] == "May" for m in mixed)
    assert all(sorted(m.choices) == sorted(items[0].choices) for m in mixed)
    assert mixed[0] == shuffled(items[0], seed=3)
    letters = Counter(m.answer for m in mixed)
    assert all(abs(letters[n] - 500) < 100 for n in range(4))  # five standard deviations
    assert [m.answer for m in mixed] != [shuffled(item, seed=4).answer for item in items]


def test_questions_file(tmp_path):
    items = read_items(write(tmp_path, row(metadata={"id": "b"}), row(metadata={"id": "a"})))
    write_questions(tmp_path / "questions", items)
    first, second = (tmp_path / "questions").read_text().splitlines()
    key, _, rest = first.partition(" ")
    assert key == "a" and second.startswith("b ")
    assert json.loads(rest) == {
        "question": "When did the bridge open?",
        "choices": ["June", "May", "March", "July"],
        "answer": 1,
    }


@pytest.mark.skipif(not SHARED.is_file(), reason="the developers' sample of SPIRAL is not here")
def test_published_rows():
    items = read_items(SHARED)
    assert len(items) == 200 and {len(item.choices) for item in items} == {4}
    assert Counter(item.kind for item in items) == {
        "lecture": 76,
        "conversation": 70,
        "meeting": 54,
    }
