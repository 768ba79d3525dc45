import pytest

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.voxceleb import prepare_identification
from test.espnet_prune.small_corpora import voxceleb1


def test_the_official_split(tmp_path, caplog):
    corpus = voxceleb1(tmp_path / "corpus")
    assert prepare_identification(corpus, tmp_path / "data") == {"train": 6, "valid": 3, "test": 3}
    for name in ("train", "valid", "test"):
        assert data_dir.validate(tmp_path / "data" / name) == []
    labels = data_dir.read_table(tmp_path / "data" / "valid" / "text")
    assert labels == {f"id1000{n}-video2-00001": f"id1000{n}" for n in range(3)}
    assert "test: has 3 utterances instead of the published 8251" in caplog.text
    split = tmp_path / "other.txt"
    (corpus / "iden_split.txt").rename(split)
    assert prepare_identification(corpus, tmp_path / "data", split)["train"] == 6


def test_broken_corpora(tmp_path):
    with pytest.raises(FileNotFoundError, match="VOXCELEB1 of db.sh"):
        prepare_identification(tmp_path / "nowhere", tmp_path / "data")
    corpus = voxceleb1(tmp_path / "corpus")
    split = corpus / "iden_split.txt"
    lines = split.read_text()
    split.write_text(lines + "4 id10001/video0/00001.wav\n")
    with pytest.raises(ValueError, match="iden_split.txt: line 13: '4 id10001/video0/00001.wav'"):
        prepare_identification(corpus, tmp_path / "data")
    split.write_text(lines + "1 id10009/video0/00001.wav\n")
    with pytest.raises(
        FileNotFoundError, match="iden_split.txt: the corpus has no id10009/video0/00001.wav"
    ):
        prepare_identification(corpus, tmp_path / "data")
    split.write_text(lines.replace("3 ", "2 "))
    with pytest.raises(ValueError, match="test would be empty"):
        prepare_identification(corpus, tmp_path / "data")
    split.write_text("\n")
    with pytest.raises(ValueError, match="iden_split.txt: is empty"):
        prepare_identification(corpus, tmp_path / "data")
    split.unlink()
    with pytest.raises(FileNotFoundError, match="iden_split.txt: no such file"):
        prepare_identification(corpus, tmp_path / "data")
