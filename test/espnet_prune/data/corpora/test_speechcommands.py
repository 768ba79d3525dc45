from collections import Counter

import pytest
import soundfile

from espnet_prune.data import data_dir
from espnet_prune.data.corpora.speechcommands import PUBLISHED, prepare
from test.espnet_prune.small_corpora import WORDS, noise, speechcommands


@pytest.fixture
def corpus(tmp_path):
    return speechcommands(tmp_path)


def test_twelve_classes(corpus, tmp_path, caplog):
    numbers = prepare(*corpus, tmp_path / "data")
    # 12 s of noise: train has those in the first 9.6 s, valid those in the last 2.4 s.
    silence = {"train": 18, "valid": 3}
    assert numbers == {"train": 24 + 18, "valid": 12 + 3, "test": 12}
    for part, speakers in (("train", 2), ("valid", 1)):
        assert data_dir.validate(tmp_path / "data" / part) == []
        labels = data_dir.read_table(tmp_path / "data" / part / "text")
        assert Counter(labels.values()) == {
            **dict.fromkeys(WORDS[:10], speakers),
            "_unknown_": 2 * speakers,
            "_silence_": silence[part],
        }
    test = data_dir.read_table(tmp_path / "data" / "test" / "text")
    assert sorted(test.values()) == sorted([*WORDS[:10], "_unknown_", "_silence_"])
    scp = data_dir.read_table(tmp_path / "data" / "valid" / "wav.scp")
    assert {path.split("/")[-1] for key, path in scp.items() if "silence" not in key} == {
        "00000002_nohash_0.wav"  # who is on the validation list
    }
    assert f"train: has 42 utterances instead of the published {PUBLISHED['train'] + 18}" in (
        caplog.text
    )


def test_silence_of_train_and_valid_shares_no_sample(corpus, tmp_path):
    prepare(*corpus, tmp_path / "data")
    noise_path = corpus[0] / "_background_noise_" / "pink_noise.wav"
    whole, rate = soundfile.read(noise_path, dtype="int16")
    used = {}
    for part in ("train", "valid"):
        scp = data_dir.read_table(tmp_path / "data" / part / "wav.scp")
        used[part] = set()
        for key in (key for key in scp if key.startswith("silence-")):
            samples, found = soundfile.read(scp[key], dtype="int16")
            begin = round(float(key.rpartition("-")[2]) * rate)
            assert found == rate and len(samples) == rate
            assert (samples == whole[begin : begin + rate]).all()
            used[part].update(range(begin, begin + rate))
    assert not used["train"] & used["valid"]


def test_broken_corpora(corpus, tmp_path):
    words, test = corpus
    out = tmp_path / "data"
    with pytest.raises(FileNotFoundError, match="SPEECHCOMMANDS of db.sh"):
        prepare(tmp_path / "nowhere", test, out)
    with pytest.raises(FileNotFoundError, match="SPEECHCOMMANDS_TEST of db.sh"):
        prepare(words, tmp_path / "nowhere", out)
    background = words / "_background_noise_" / "pink_noise.wav"
    noise(background, seconds=3)
    with pytest.raises(ValueError, match="pink_noise.wav: is shorter than 10 s"):
        prepare(words, test, out)
    background.unlink()
    with pytest.raises(FileNotFoundError, match=r"_background_noise_: has no \*.wav"):
        prepare(words, test, out)
    (test / "_silence_" / "0000000f_nohash_0.wav").unlink()
    with pytest.raises(ValueError, match="class _silence_ has no recordings"):
        prepare(words, test, out)
    (words / "go" / "00000002_nohash_0.wav").unlink()
    with pytest.raises(FileNotFoundError, match="go/00000002_nohash_0.wav: no such file, but an"):
        prepare(words, test, out)
    (words / "testing_list.txt").unlink()
    with pytest.raises(FileNotFoundError, match="testing_list.txt: no such file"):
        prepare(words, test, out)


def test_an_empty_class(corpus, tmp_path):
    words, test = corpus
    for number in (0, 1):  # those that are on no list
        (words / "stop" / f"0000000{number}_nohash_0.wav").unlink()
    with pytest.raises(ValueError, match="class stop has no recordings"):
        prepare(words, test, tmp_path / "data")
