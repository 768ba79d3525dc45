import pytest

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.common import Utterance, read_csv, write_sets


@pytest.fixture
def audio(tmp_path):
    path = tmp_path / "a.wav"
    path.touch()
    return path


def test_a_set_is_a_valid_data_directory(audio, tmp_path, caplog):
    chosen = [Utterance("b-1", "b", "yes", audio), Utterance("a-1", "a", "no", audio)]
    assert write_sets(tmp_path / "data", {"train": chosen}, {"train": 3}) == {"train": 2}
    assert data_dir.validate(tmp_path / "data" / "train") == []
    assert data_dir.read_table(tmp_path / "data" / "train" / "text") == {"a-1": "no", "b-1": "yes"}
    assert "train: has 2 utterances instead of the published 3" in caplog.text


def test_what_is_wrong_with_a_set(audio, tmp_path):
    each = Utterance("a-1", "a", "no", audio)
    with pytest.raises(ValueError, match="test would be empty"):
        write_sets(tmp_path / "data", {"train": [each], "test": []})
    with pytest.raises(ValueError, match="train: a-1 is there twice"):
        write_sets(tmp_path / "data", {"train": [each, each]})
    gone = Utterance("a-2", "a", "no", tmp_path / "gone.wav")
    with pytest.raises(FileNotFoundError, match=r"gone.wav: no such file \(1 of the 2 of train"):
        write_sets(tmp_path / "data", {"train": [each, gone]})
    assert not (tmp_path / "data").exists()


def test_no_set_is_written_where_one_would_go_over_tables_of_others(tmp_path):
    (tmp_path / "a.wav").touch()
    chosen = [Utterance("u", "s", "text", tmp_path / "a.wav")]
    (tmp_path / "data" / "test").mkdir(parents=True)
    (tmp_path / "data" / "test" / "text").write_text("u mine\n")
    with pytest.raises(ValueError, match="test: holds text, which was not written here"):
        write_sets(tmp_path / "data", {"train": chosen, "test": chosen})
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["test"]


def test_csv_that_is_none(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('name\n"' + "x" * 200000 + '"\n')
    with pytest.raises(ValueError, match="a.csv: line 1: not CSV: field larger than field limit"):
        list(read_csv(path, ["name"]))
