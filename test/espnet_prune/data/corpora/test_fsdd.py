from collections import Counter
from pathlib import Path

import pytest

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.fsdd import prepare_digits, prepare_speakers
from test.espnet_prune.small_corpora import fsdd

REAL = Path(__file__).resolve().parents[5] / "shared" / "data" / "fsdd"


def text(folder: Path) -> dict[str, str]:
    return data_dir.read_table(folder / "text")


def test_nobody_is_trained_and_tested_on(tmp_path):
    numbers = prepare_digits(fsdd(tmp_path / "corpus"), tmp_path / "data")
    assert numbers["train_fold2"] == 2 * 10 * 2 and numbers["valid_fold2"] == 2 * 10
    assert numbers["test_fold2"] == 30 and len(numbers) == 9
    for fold, left_out in enumerate(("george", "jackson", "lucas"), 1):
        sets = {}
        for name in ("train", "valid", "test"):
            folder = tmp_path / "data" / f"{name}_fold{fold}"
            assert data_dir.validate(folder) == []
            sets[name] = data_dir.read_table(folder / "utt2spk")
            assert set(text(folder).values()) == {
                *("zero", "one", "two", "three", "four"),
                *("five", "six", "seven", "eight", "nine"),
            }
        assert set(sets["test"].values()) == {left_out}
        assert left_out not in {*sets["train"].values(), *sets["valid"].values()}
        assert not sets["train"].keys() & sets["valid"].keys()
    assert text(tmp_path / "data" / "test_fold3")["lucas-7-010"] == "seven"


def test_speakers_are_split_by_index(tmp_path):
    numbers = prepare_speakers(fsdd(tmp_path / "corpus"), tmp_path / "data")
    assert numbers == {"train": 30, "valid": 30, "test": 30}
    for name, index in (("test", "000"), ("valid", "005"), ("train", "010")):
        labels = text(tmp_path / "data" / name)
        assert {key.split("-")[2] for key in labels} == {index}
        assert Counter(labels.values()) == {"george": 10, "jackson": 10, "lucas": 10}


def test_broken_corpora(tmp_path):
    with pytest.raises(FileNotFoundError, match="FSDD of db.sh names it"):
        prepare_digits(tmp_path / "nowhere", tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no recordings/\*.wav"):
        prepare_digits(tmp_path / "empty", tmp_path / "data")
    with pytest.raises(ValueError, match="only the speaker theo"):
        prepare_digits(fsdd(tmp_path / "one", ("theo",)), tmp_path / "data")
    corpus = fsdd(tmp_path / "corpus")
    for path in (corpus / "recordings").glob("4_jackson_*.wav"):
        path.unlink()
    with pytest.raises(ValueError, match="jackson: class four has no recordings"):
        prepare_speakers(corpus, tmp_path / "data")
    (corpus / "recordings" / "four.wav").touch()
    with pytest.raises(ValueError, match="four.wav: is not named digit_speaker_index.wav"):
        prepare_speakers(corpus, tmp_path / "data")


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data/fsdd here")
def test_the_corpus_itself(tmp_path):
    numbers = prepare_digits(REAL, tmp_path / "digits")
    assert [numbers[f"test_fold{n}"] for n in (1, 2, 3, 4)] == [500] * 4
    assert [numbers[f"train_fold{n}"] for n in (1, 2, 3, 4)] == [1350] * 4
    assert prepare_speakers(REAL, tmp_path / "speakers") == {
        "train": 1600,
        "valid": 200,
        "test": 200,
    }
