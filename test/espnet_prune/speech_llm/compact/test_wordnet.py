import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.speech_llm.compact import wordnet as module
from espnet_prune.speech_llm.compact.wordnet import (
    SHARES,
    TOGETHER,
    covering,
    dictionary_texts,
    passages,
)

DATA = """  1 This is the licence; of four words and more.
00001 03 n 01 x 0 000 | a small (or tiny) wooden boat; too short; "he rowed the boat home"
00002 03 n 01 y 0 000 | a house with 4 rooms; "he rowed the boat home"; "Stay here, will you?"
"""


def test_texts_of_the_dictionary(tmp_path, monkeypatch):
    folder = tmp_path / module.FOLDER
    folder.mkdir(parents=True)
    for name in module.FILES:
        (folder / name).write_text(DATA if name == "data.noun" else "")
    monkeypatch.setattr(module, "fetch_packages", lambda names, work: tmp_path)
    wanted = ["Stay here, will you?", "a small wooden boat.", "he rowed the boat home."]
    assert dictionary_texts("tools") == wanted
    (folder / "data.adv").unlink()
    with pytest.raises(FileNotFoundError):
        dictionary_texts("tools")


LETTERS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6).map(" ".join)


@given(st.lists(LETTERS, unique=True, max_size=20), st.integers(0, 4), st.integers(0, 3))
def test_what_is_left_out_brings_little(texts, times, seed):
    taken = covering(texts, lambda word: times, seed)
    assert set(taken) <= set(texts) and len(taken) == len(set(taken))
    assert taken == covering(texts, lambda word: times, seed)
    count = {word: sum(text.split().count(word) for text in taken) for word in "abcdef"}
    for text in set(texts) - set(taken):
        words = text.split()
        gain = sum(1 - count[w] / times for w in set(words) if count[w] < times)
        assert gain / len(words) < min(SHARES)


def test_words_that_are_not_wanted_bring_nothing():
    assert covering(["a b", "c d"], lambda word: word in "ab") == ["a b"]


def test_passages_hold_all_texts():
    texts = [f"t{n}" for n in range(2 * TOGETHER + 1)]
    assert [len(p) for p in passages(texts)] == [TOGETHER, TOGETHER, 1]
    assert sum(passages(texts), []) == texts
