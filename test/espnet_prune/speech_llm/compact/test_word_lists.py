from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_prune.speech_llm.compact import word_lists as module
from espnet_prune.speech_llm.compact.word_lists import (
    LENGTH,
    TOGETHER,
    dictionary,
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
    passages = list(word_lists(words, times, seed))
    assert passages == list(word_lists(words, times, seed))
    lists = [row for passage in passages for row in passage]
    said = [row.rstrip(".").replace(",", "").split() for row in lists]
    assert Counter(word for row in said for word in row) == Counter(words * times)
    assert all(len(row) <= LENGTH[1] for row in said)
    assert all(text.endswith(".") for text in lists)
    assert all(len(passage) <= TOGETHER for passage in passages)


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
