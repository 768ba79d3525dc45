import pytest

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.mini_an4 import prepare
from test.espnet_prune.small_corpora import mini_an4


def test_sets(tmp_path):
    numbers = prepare(mini_an4(tmp_path / "corpus"), tmp_path / "data")
    assert numbers == {"train": 2, "valid": 1, "test": 1}
    texts = {}
    for name in ("train", "valid", "test"):
        assert data_dir.validate(tmp_path / "data" / name) == []
        texts[name] = data_dir.read_table(tmp_path / "data" / name / "text")
    assert texts["valid"] == {"fash-an251-b": "YES"}
    assert texts["train"] == {"fbbh-cen8-b": "MARCH THIRD", "mwhw-an152-b": "START"}
    assert texts["test"] == {"fcaw-cen8-b": "ELEVEN TWENTY"}
    speakers = data_dir.read_table(tmp_path / "data" / "train" / "utt2spk")
    assert speakers == {"fbbh-cen8-b": "fbbh", "mwhw-an152-b": "mwhw"}


def test_broken_corpora(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="unpack downloads.tar.gz"):
        prepare(tmp_path / "empty", tmp_path / "data")
    corpus = mini_an4(tmp_path / "corpus")
    test = corpus / "an4" / "etc" / "an4_test.transcription"
    test.write_text("ELEVEN TWENTY\n")
    with pytest.raises(ValueError, match="line 1: is not 'WORDS "):
        prepare(corpus, tmp_path / "data")
    test.write_text("ELEVEN TWENTY (cen8-gone-b)\n")
    with pytest.raises(FileNotFoundError, match="cen8-gone-b.sph: no such file"):
        prepare(corpus, tmp_path / "data")
