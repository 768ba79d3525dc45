from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.speech_llm.compact import words as module
from espnet_prune.speech_llm.compact.words import (
    LENGTH,
    LISTS_TOGETHER,
    SHARES,
    TEXTS_TOGETHER,
    covering,
    dictionary,
    dictionary_texts,
    together,
    whole_words,
    word_lists,
)


class ByteTokenizer:
    """Tokens as byte-pair tokenizers have them: a mark in the place of a blank."""

    vocabulary = {"Ġa": 0, "Ġriver": 3, "Ġthe": 2, "river": 4, "Ġrive": 5, "ĠIt": 6, "Ġof": 7}

    def get_vocab(self):
        return self.vocabulary

    def __call__(self, text, add_special_tokens):
        assert text == " a"
        return type("Ids", (), {"input_ids": [0]})

    def convert_ids_to_tokens(self, ids):
        return [token for token, number in self.vocabulary.items() if number in ids]


def test_words_are_tokens_with_a_blank_before_them_that_are_english():
    english = {"a", "the", "of", "river", "it"}
    assert whole_words(ByteTokenizer(), english) == ["the", "river"]  # by id


@given(st.integers(0, 60), st.integers(0, 3), st.integers(0, 5))
def test_each_word_comes_as_often_as_asked(number, times, seed):
    words = [f"w{n}" for n in range(number)]
    passages = word_lists(words, times, seed)
    assert passages == word_lists(words, times, seed)
    lists = [row for passage in passages for row in passage]
    said = [row.rstrip(".").replace(",", "").split() for row in lists]
    assert Counter(word for row in said for word in row) == Counter(words * times)
    assert all(len(row) <= LENGTH[1] for row in said)
    assert all(text.endswith(".") for text in lists)
    assert all(len(passage) <= LISTS_TOGETHER for passage in passages)


def test_another_seed_is_another_order():
    words = [f"w{n}" for n in range(20)]
    assert list(word_lists(words, 1, 0)) != list(word_lists(words, 1, 1))


def test_the_dictionary_is_a_debian_package(tmp_path, monkeypatch):
    package, file = module.DICTIONARY
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("apple\nAnna\ncafé\nriver\nAnna's\nMcCoy\nUSA\n", encoding="utf-8")
    monkeypatch.setattr(module, "fetch_packages", lambda names, work: tmp_path)
    assert dictionary("tools") == {"apple", "Anna", "river"}
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError):
        dictionary("tools")


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
    texts = [f"t{n}" for n in range(2 * TEXTS_TOGETHER + 1)]
    assert [len(p) for p in together(texts, TEXTS_TOGETHER)] == [TEXTS_TOGETHER, TEXTS_TOGETHER, 1]
    assert sum(together(texts, TEXTS_TOGETHER), []) == texts
