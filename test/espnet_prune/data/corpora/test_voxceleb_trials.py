import shutil
from collections import Counter

import pytest

from espnet_prune.cli import main
from espnet_prune.data import data_dir
from espnet_prune.data.corpora.voxceleb import (
    development_trials,
    pair_up,
    prepare_verification,
    read_trials,
    utterance_name,
)
from test.espnet_prune.commands import error_of
from test.espnet_prune.stand_in_speakers import voxceleb1


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return voxceleb1(tmp_path_factory.mktemp("corpus"), seconds=0.1)


@pytest.fixture
def corpus(untouched, tmp_path):
    """A stand-in that a test may break."""
    return shutil.copytree(untouched, tmp_path / "corpus")


def trials_of(folder):
    return {tuple(k.split("*")): v for k, v in data_dir.read_table(folder / "trials").items()}


def test_no_speaker_is_in_two_sets(corpus, tmp_path):
    numbers = prepare_verification(corpus, tmp_path / "data", held_out=2)
    assert numbers == {"train": 4 * 4, "dev": 2 * 4, "test": 3 * 4}
    speakers = {}
    for name in numbers:
        folder = tmp_path / "data" / name
        assert data_dir.validate(folder, need_text=False) == []
        utt2spk = data_dir.read_table(folder / "utt2spk")
        speakers[name] = set(utt2spk.values())
        assert all(utterance.startswith(speaker) for utterance, speaker in utt2spk.items())
    assert sum(map(len, speakers.values())) == 9 == len(set.union(*speakers.values()))
    assert speakers["test"] == {"id10006", "id10007", "id10008"}
    assert not (tmp_path / "data" / "train" / "trials").exists()
    for name in ("dev", "test"):
        utterances = data_dir.read_table(tmp_path / "data" / name / "utt2spk")
        for pair, label in trials_of(tmp_path / "data" / name).items():
            assert (utterances[pair[0]] == utterances[pair[1]]) == (label == "1")
    # 12 test utterances make 66 pairs, 4 of each speaker make 6
    assert Counter(trials_of(tmp_path / "data" / "test").values()) == {"1": 3 * 6, "0": 66 - 18}
    again = tmp_path / "again"
    prepare_verification(corpus, again, held_out=2)
    assert (again / "dev" / "trials").read_bytes() == (
        tmp_path / "data" / "dev" / "trials"
    ).read_bytes()


def test_names():
    assert utterance_name("id10001/-cD2/00001.wav") == "id10001--cD2-00001"


def test_development_trials_are_balanced_and_from_different_videos():
    speakers = {
        name: [f"{name}/{video}/{n}.wav" for video in "xy" for n in range(3)] for name in "abc"
    }
    trials = development_trials(speakers, targets_each=7)
    for name in "abc":
        targets = [pair for pair, same in trials.items() if same and pair[0][0] == name]
        # 9 pairs are from different videos, so 7 of them can be had
        assert len(targets) == 7
        assert all(first.split("/")[1] != second.split("/")[1] for first, second in targets)
        assert sum(not same and pair[0][0] == name for pair, same in trials.items()) == 7
    more = development_trials(speakers, targets_each=12)  # of 15 pairs 9 are from different videos
    assert Counter(more.values()) == {True: 36, False: 36}
    assert not any((second, first) in more for first, second in more)
    few = development_trials(speakers, utterances_each=2)
    assert len({name for pair in few for name in pair}) == 6
    with pytest.raises(ValueError, match="need two speakers or more, there are 1"):
        development_trials({"a": speakers["a"]})
    with pytest.raises(ValueError, match="speaker z has one utterance only"):
        development_trials({**speakers, "z": ["z/x/1.wav"]})


def test_one_folder_of_all_speakers(corpus, tmp_path):
    (corpus / "test" / "wav").rename(corpus / "wav")
    for folder in (corpus / "dev" / "wav").iterdir():
        folder.rename(corpus / "wav" / folder.name)
    assert prepare_verification(corpus, tmp_path / "data", held_out=2)["test"] == 12


def test_pairs_for_validation(corpus, tmp_path, capsys):
    prepare_verification(corpus, tmp_path / "data", held_out=2)
    source, target = tmp_path / "data" / "dev", tmp_path / "pairs"
    utterances = data_dir.read_table(source / "wav.scp")
    data_dir.write_table(source / "utt2num_samples", dict.fromkeys(utterances, 1600))
    trials = trials_of(source)
    main(["data", "trial-pairs", str(source), str(source / "trials"), str(target)])
    assert capsys.readouterr().out == f"{target}: {len(trials)} trials\n"
    tables = {
        name: data_dir.read_table(target / name)
        for name in ("wav.scp", "speech2", "spk_labels", "utt2num_samples")
    }
    for (first, second), label in trials.items():
        found = [table[f"{first}*{second}"] for table in tables.values()]
        assert found == [utterances[first], utterances[second], label, "1600"]
    (source / "other").write_text("id10001-x-1*id10002-y-2 1\n")
    with pytest.raises(ValueError, match="other: .*: id10001-x-1 is not in .*dev; prepare both"):
        pair_up(source, source / "other", target)


def test_wrong_count_is_a_warning(corpus, tmp_path, caplog):
    prepare_verification(corpus, tmp_path / "data", held_out=2)
    assert "veri_test.txt: has 66 trials instead of the published 37720" in caplog.text
    assert "has 6 training speakers instead of the published 1211" in caplog.text
    lines = (corpus / "veri_test.txt").read_text()
    (corpus / "twice.txt").write_text(lines + lines.splitlines()[0] + "\n")
    assert len(read_trials(corpus / "twice.txt")) == 66
    assert "twice.txt: 1 trials are there twice" in caplog.text


def test_broken_corpora(corpus, tmp_path, capsys):
    def error(*options):
        return error_of(
            capsys, "corpus", "voxceleb_trials", str(corpus), str(tmp_path / "data"), *options
        )

    message = error()  # 40 cannot be held out of 6
    assert message.startswith(f"error: {corpus}: has 6 training speakers, of which --held_out 40 ")
    path = corpus / "veri_test.txt"
    first = path.read_text().splitlines()[0]
    path.write_text(first + " more\n")
    assert f"{path}: line 1: not '1 path path' or '0 path path'" in error("--held_out", "2")
    path.write_text("0" + first[1:] + "\n")
    assert f"{path}: line 1: the label does not fit the speakers" in error("--held_out", "2")
    path.write_text(first.replace("00001", "00009", 1) + "\n")
    message = error("--held_out", "2")
    assert f"{path}: the corpus has no id10006/a-B_1/00009.wav; unpack all of it" in message
    path.unlink()
    assert f"{path}: no such file; put VoxCeleb1's list of trials there" in error()
    shutil.rmtree(corpus / "dev")
    shutil.rmtree(corpus / "test")
    assert f"{corpus}: has no audio <speaker>/<video>/*.wav" in error()
    corpus.rmdir()
    assert f"{corpus}: no such directory; VOXCELEB1 of db.sh names it" in error()
