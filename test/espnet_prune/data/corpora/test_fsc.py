import pytest

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.fsc import prepare
from test.espnet_prune.small_corpora import fsc


def test_an_intent_is_one_word_with_three_slots(tmp_path, caplog):
    numbers = prepare(fsc(tmp_path / "corpus"), tmp_path / "data")
    assert numbers == {"train": 8, "valid": 2, "test": 2}
    for name in numbers:
        assert data_dir.validate(tmp_path / "data" / name) == []
    labels = data_dir.read_table(tmp_path / "data" / "valid" / "text")
    assert labels == {
        "spk0-valid0": "activate+lights+none",
        "spk1-valid1": "change_language+none+none",
    }
    assert data_dir.read_table(tmp_path / "data" / "valid" / "utt2spk")["spk1-valid1"] == "spk1"
    assert "test: has 2 utterances instead of the published 3793" in caplog.text


def test_broken_corpora(tmp_path):
    out = tmp_path / "data"
    with pytest.raises(FileNotFoundError, match="FSC of db.sh names it"):
        prepare(tmp_path / "nowhere", out)
    corpus = fsc(tmp_path / "corpus")
    test = corpus / "data" / "test_data.csv"
    head, *rows = test.read_text().splitlines()
    (corpus / "wavs" / "speakers" / "spk1" / "test1.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"spk1/test1.wav: no such file \(1 of the 2"):
        prepare(corpus, out)
    test.write_text("\n".join([head, rows[0], rows[1].replace("none", "")]))
    with pytest.raises(ValueError, match="test_data.csv: line 3: column location is empty"):
        prepare(corpus, out)
    test.write_text(head + "\n")
    with pytest.raises(ValueError, match="test would be empty"):
        prepare(corpus, out)
    test.write_text(head.replace("object", "thing"))
    with pytest.raises(ValueError, match="has no column object"):
        prepare(corpus, out)
    test.unlink()
    with pytest.raises(FileNotFoundError, match="test_data.csv: no such file"):
        prepare(corpus, out)
