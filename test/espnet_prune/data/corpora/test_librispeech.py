import shutil

import pytest

from espnet_prune.cli import main
from espnet_prune.data import data_dir
from espnet_prune.data.corpora.librispeech import SUBSETS, find_root, prepare, read_subset
from test.espnet_prune.commands import error_of
from test.espnet_prune.stand_in import librispeech


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return librispeech(tmp_path_factory.mktemp("corpus"), utterances=2, seconds=0.1)


@pytest.fixture
def corpus(untouched, tmp_path):
    """A stand-in that a test may break."""
    return shutil.copytree(untouched, tmp_path / "corpus")


def test_960_hours_are_all_training_subsets(corpus, tmp_path):
    numbers = prepare(corpus, tmp_path / "data")
    assert numbers == {**{name.replace("-", "_"): 4 for name in SUBSETS}, "dev": 8, "train_960": 12}
    for name in numbers:
        assert data_dir.validate(tmp_path / "data" / name) == []
    tables = data_dir.read_dir(tmp_path / "data" / "dev_other")
    key = "108-5108-0001"  # the fifth subset's first reader
    folder = corpus / "LibriSpeech" / "dev-other" / "108" / "5108"
    assert tables["wav.scp"][key] == str(folder / f"{key}.flac")
    assert tables["utt2spk"][key] == "108"
    line = (folder / "108-5108.trans.txt").read_text().splitlines()[1]
    assert line == f"{key} {tables['text'][key]}"


def test_100_hours_need_no_other_training_subsets(corpus, tmp_path, capsys):
    for name in ("train-clean-360", "train-other-500"):
        shutil.rmtree(corpus / "LibriSpeech" / name)
    root = str(corpus / "LibriSpeech")  # the folder itself does, too
    out = str(tmp_path / "data")
    main(["corpus", "librispeech", root, out, "--train_hours", "100"])
    shown = capsys.readouterr().out
    assert f"{out}/train_clean_100: 4 utterances" in shown and "train_960" not in shown
    error = error_of(capsys, "corpus", "librispeech", root, out)
    assert error == (
        f"error: {root}/train-clean-360: no such directory; unpack train-clean-360, "
        f"train-other-500 in {root}, or say --train_hours 100"
    )


def test_published_numbers():
    assert SUBSETS.keys() == {
        *("train-clean-100", "train-clean-360", "train-other-500"),
        *("dev-clean", "dev-other", "test-clean", "test-other"),
    }
    # The sum of the training subsets that papers on 960 hours give
    assert sum(n for name, n in SUBSETS.items() if name.startswith("train")) == 281241


def test_an_incomplete_subset_is_a_warning(corpus, caplog):
    folder = corpus / "LibriSpeech" / "test-clean"
    (folder / "110" / "5110" / "110-5110-0000.flac").unlink()
    names = [each.name for each in read_subset(folder)]
    assert len(names) == 3 and "110-5110-0000" not in names
    assert f"{folder}: 1 transcripts have no audio, the first is 110-5110-0000" in caplog.text
    assert f"{folder}: has 3 utterances instead of the published 2620" in caplog.text


def test_no_warning_about_folders_of_other_names(corpus, caplog):
    folder = corpus / "LibriSpeech" / "test-clean"
    read_subset(folder.rename(folder.with_name("mine")))
    assert caplog.text == ""


def test_wrong_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such directory; LIBRISPEECH of db.sh"):
        find_root(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="has no LibriSpeech/dev-clean; nor another subset"):
        find_root(tmp_path)
    with pytest.raises(ValueError, match="--train_hours is 10, choose 960 or 100"):
        prepare(tmp_path, tmp_path, 10)


def test_missing_transcripts(corpus):
    folder = corpus / "LibriSpeech" / "dev-clean"
    path = folder / "106" / "5106" / "106-5106.trans.txt"
    first = path.read_text().splitlines(keepends=True)[0]
    path.write_text(first)
    with pytest.raises(ValueError, match=r"106-5106-0001.flac: has no transcript in 106-5106.tr"):
        read_subset(folder)
    path.write_text(first + first)
    with pytest.raises(ValueError, match=r"106-5106.trans.txt: line 2: 106-5106-0000 is there tw"):
        read_subset(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"trans.txt: missing, the transcripts of 2 rec"):
        read_subset(folder)


def test_a_subset_without_audio(corpus):
    folder = corpus / "LibriSpeech" / "dev-clean"
    for path in folder.rglob("*.flac"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="dev-clean: has no audio <speaker>/<chapter>/"):
        read_subset(folder)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="dev-clean: no such directory; unpack dev-clean"):
        read_subset(folder)
