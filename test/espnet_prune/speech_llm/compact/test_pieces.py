import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from espnet_prune.speech_llm.compact.pieces import Pieces, find_pieces, piece_tokenizer, spell
from test.espnet_prune.speech_llm.models import tokenizer

MERGES = [("r", "e"), ("Ġ", "re"), ("Ġre", "d"), ("n", "o"), ("Ġ", "no"), ("Ġno", "d")]


@pytest.fixture(scope="module")
def tokens() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    table = {piece: i for i, piece in enumerate([*alphabet, *(a + b for a, b in MERGES)])}
    bpe = Tokenizer(BPE(table, MERGES))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bpe)


@pytest.mark.parametrize(
    ("merges", "said"),
    [
        (0, ["Ġred", "Ġnod"]),  # all
        (6, ["Ġred", "Ġnod"]),
        (5, ["Ġred", "Ġno", "d"]),
        (2, ["Ġre", "d", "Ġ", "n", "o", "d"]),
        (1, ["Ġ", "re", "d", "Ġ", "n", "o", "d"]),
    ],
)
def test_the_first_merges_are_used(tokens, merges, said):
    ids = spell(piece_tokenizer(tokens, merges), "red nod")
    assert tokens.convert_ids_to_tokens(ids) == said
    if not merges:
        assert ids == tokens(" red nod", add_special_tokens=False).input_ids


@given(text=st.text(max_size=20), merges=st.integers(0, 6))
def test_nothing_is_lost(tokens, text, merges):
    ids = spell(piece_tokenizer(tokens, merges), text)
    assert tokens.decode(ids, clean_up_tokenization_spaces=False) == f" {text}"


def test_pieces_of_a_text(tokens, tmp_path):
    pieces, counts = find_pieces(tokens, 2, ["red nod", "red"])
    named = dict(zip(tokens.convert_ids_to_tokens(pieces.token_ids), pieces.token_ids, strict=True))
    assert set(named) == {"Ġre", "d", "Ġ", "n", "o"}
    assert {name: counts[i] for name, i in named.items()} == {
        "Ġre": 2, "d": 3, "Ġ": 1, "n": 1, "o": 1,
    }  # fmt: skip
    assert list(pieces.token_ids) == sorted(pieces.token_ids)
    (tmp_path / "pieces.json").write_text(pieces.to_json())
    assert Pieces.load(tmp_path / "pieces.json") == pieces


def test_errors(tokens, tmp_path):
    with pytest.raises(ValueError, match="merges is -1"):
        piece_tokenizer(tokens, -1)
    # no byte pairs, but words
    assert spell(piece_tokenizer(tokenizer(), 0), "red") == tokenizer()(" red").input_ids
    with pytest.raises(ValueError, match="merges is 5, but the language model has no byte-pair"):
        piece_tokenizer(tokenizer(), 5)
    path = tmp_path / "pieces.json"
    with pytest.raises(FileNotFoundError, match="pieces.json: no such file"):
        Pieces.load(path)
    for text, message in (
        ("1\n2\n", "not JSON"),
        (json.dumps({"merges": 1}), "has no 'token_ids'"),
        (json.dumps({"merges": 1, "token_ids": "x"}), "not a file of `espnet-prune"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"pieces.json: {message}"):
            Pieces.load(path)
