import shutil
from collections import Counter

import pytest

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.iemocap import prepare
from test.espnet_prune.small_corpora import iemocap


def test_five_folds(tmp_path, caplog):
    numbers = prepare(iemocap(tmp_path / "corpus"), tmp_path / "data")
    # Two speakers a session show ang, hap, exc, neu and sad; fru and xxx are left out.
    assert numbers == {
        f"{name}_fold{fold}": number
        for fold in range(1, 6)
        for name, number in (("train", 32), ("valid", 8), ("test", 10))
    }
    tested = []
    for fold in range(1, 6):
        sets = {}
        for name in ("train", "valid", "test"):
            folder = tmp_path / "data" / f"{name}_fold{fold}"
            assert data_dir.validate(folder) == []
            sets[name] = set(data_dir.read_table(folder / "wav.scp"))
        assert {name[:5] for name in sets["test"]} == {f"Ses0{fold}"}
        assert f"Ses0{fold}" not in {name[:5] for name in sets["train"] | sets["valid"]}
        assert not sets["train"] & sets["valid"]
        tested += sets["test"]
        labels = data_dir.read_table(folder / "text").values()
        assert Counter(labels) == {"ang": 2, "hap": 4, "neu": 2, "sad": 2}
    assert len(set(tested)) == 50
    speakers = data_dir.read_table(tmp_path / "data" / "test_fold3" / "utt2spk")
    assert speakers["Ses03M-Ses03F_impro01_M000"] == "Ses03M"
    assert "Session2: has 10 utterances of the four classes instead of the published 1023" in (
        caplog.text
    )


def test_broken_corpora(tmp_path):
    out = tmp_path / "data"
    with pytest.raises(FileNotFoundError, match="IEMOCAP of db.sh"):
        prepare(tmp_path / "nowhere", out)
    corpus = iemocap(tmp_path / "corpus")
    wav = corpus / "Session2" / "sentences" / "wav" / "Ses02F_impro01" / "Ses02F_impro01_F001.wav"
    wav.unlink()
    with pytest.raises(FileNotFoundError, match="Ses02F_impro01_F001.wav: no such file"):
        prepare(corpus, out)
    ratings = corpus / "Session4" / "dialog" / "EmoEvaluation" / "Ses04F_impro01.txt"
    text = ratings.read_text()
    ratings.write_text(text.replace("\tsad\t", "\tfru\t"))
    with pytest.raises(ValueError, match="class sad has no recordings"):
        prepare(corpus, out)
    ratings.write_text("nothing\n")
    with pytest.raises(ValueError, match="Ses04F_impro01.txt: has no line"):
        prepare(corpus, out)
    shutil.rmtree(corpus / "Session5")
    ratings.write_text(text)
    with pytest.raises(FileNotFoundError, match=r"Session5/dialog/EmoEvaluation: has no Ses\*.txt"):
        prepare(corpus, out)
