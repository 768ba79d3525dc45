import shutil

import pytest
import soundfile

from espnet_prune.cli import main
from espnet_prune.data import data_dir
from espnet_prune.data.corpora.librimix import (
    find_root,
    frame_labels,
    prepare,
    speakers_of,
    turns_of,
)
from espnet_prune.data.rttm import Turn, read_rttm
from test.espnet_prune.commands import error_of
from test.espnet_prune.stand_in_speakers import librimix


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return librimix(tmp_path_factory.mktemp("corpus"), mixtures=2)


@pytest.fixture
def corpus(untouched, tmp_path):
    """A stand-in that a test may break."""
    return shutil.copytree(untouched, tmp_path / "corpus")


def csv_of(corpus, part="dev"):
    return corpus / "Libri2Mix/wav16k/max/metadata" / f"mixture_{part}_mix_both.csv"


def test_data_directories(corpus, tmp_path, caplog):
    assert prepare(corpus, tmp_path / "data") == {"train": 2, "dev": 2, "test": 2}
    assert "has 2 mixtures of train instead of the published 13900" in caplog.text
    folder = tmp_path / "data" / "dev"
    assert data_dir.validate(folder, need_text=False) == []
    name = "11-511-0000_21-521-0000"
    assert data_dir.read_table(folder / "wav.scp")[name] == str(
        corpus / "Libri2Mix/wav16k/max/dev/mix_both" / f"{name}.wav"
    )
    sources = read_rttm(corpus / "metadata/LibriSpeech/dev_clean.rttm")
    turns = read_rttm(folder / "rttm")[name]
    assert sorted(turns) == sorted(sources["511-0000"] + sources["521-0000"])
    assert {turn.speaker for turn in turns} == {"11", "21"}


def test_espnet_reads_who_talks_in_which_frames(corpus, tmp_path):
    from espnet2.train.dataset import DATA_TYPES

    prepare(corpus, tmp_path / "data")
    labels = DATA_TYPES["text_int"]["func"](tmp_path / "data" / "train" / "frame_labels")
    turns = read_rttm(tmp_path / "data" / "train" / "rttm")
    audio = data_dir.read_table(tmp_path / "data" / "train" / "wav.scp")
    assert set(labels) == set(turns) == set(audio)
    for name, row in labels.items():
        assert len(row) == -(-soundfile.info(audio[name]).frames // 320)
        assert {turn.speaker for turn in turns[name]} == set(speakers_of(name))
        for frame, number in enumerate(row):
            begin, end = 0.02 * frame, 0.02 * (frame + 1)
            for bit, speaker in enumerate(speakers_of(name)):
                (turn,) = (turn for turn in turns[name] if turn.speaker == speaker)
                talks = max(0.0, min(end, turn.end) - max(begin, turn.begin))
                assert abs(talks - 0.01) < 1e-6 or (number >> bit & 1) == (talks > 0.01)


def test_most_samples_of_a_frame_decide():
    sample = 1 / 16000
    turns = [
        Turn("a", 0, 160 * sample),  # half of frame 0
        Turn("b", 159 * sample, 900 * sample),  # most of 0, all of 1, most of 2
        Turn("a", 640 * sample, 801 * sample),  # a sample more than half of 2
        Turn("a", 960 * sample, 1000 * sample),  # all that there is of frame 3
    ]
    assert frame_labels(turns, ["a", "b"], 1000).tolist() == [2, 2, 3, 0]
    assert frame_labels(turns, ["b", "a"], 960).tolist() == [1, 1, 3]


def test_turns_of_a_mixture():
    alignments = {"7-1": [Turn("3", 0.0, 1.0), Turn("3", 1.5, 2.05)], "4-8-2": [Turn("4", 0.2, 1)]}
    turns = turns_of("3-7-1_4-8-2", alignments, 2.0)  # named without and with the speaker
    assert turns == [Turn("3", 0.0, 1.0), Turn("3", 1.5, 2.0), Turn("4", 0.2, 1)]
    with pytest.raises(ValueError, match="7-1 talks until 2.05 s, but mixture .* ends at 1.9 s"):
        turns_of("3-7-1_4-8-2", alignments, 1.9)
    with pytest.raises(ValueError, match="has no turns of 8-3, a source of mixture 3-7-1_4-8-3"):
        turns_of("3-7-1_4-8-3", alignments, 2.0)
    with pytest.raises(ValueError, match="7-1 is of speaker 3, but 5-7-1_4-8-2 says 5"):
        turns_of("5-7-1_4-8-2", alignments, 2.0)


def test_names_of_the_fork(corpus, tmp_path):
    root = corpus / "Libri2Mix/wav16k/max"
    (root / "train-100").rename(root / "train")
    csv_of(corpus, "train-100").rename(csv_of(corpus, "train"))
    (corpus / "metadata").rename(tmp_path / "elsewhere")
    out, rttms = str(tmp_path / "data"), str(tmp_path / "elsewhere" / "LibriSpeech")
    main(["corpus", "librimix", str(corpus / "Libri2Mix"), out, "--rttm_dir", rttms])
    assert find_root(root) == root
    assert len(data_dir.read_table(tmp_path / "data" / "train" / "wav.scp")) == 2


def test_broken_corpora(corpus, tmp_path, capsys):
    def error():
        return error_of(capsys, "corpus", "librimix", str(corpus), str(tmp_path / "data"))

    folder = corpus / "Libri2Mix/wav16k/max"
    wav = folder / "test/mix_both/12-512-0000_22-522-0000.wav"
    samples, _ = soundfile.read(wav)
    soundfile.write(wav, samples[:-1], 16000)
    assert f"{wav}: has {len(samples) - 1} samples at 16000 Hz, but the metadata" in error()
    wav.write_bytes(b"RIFF")
    assert f"{wav}: has no readable samples at 16000 Hz" in error()
    wav.unlink()
    assert f"{wav}: has no readable samples at 16000 Hz" in error()
    head, first, *_ = csv_of(corpus).read_text().splitlines()
    csv_of(corpus).write_text(f"{head}\n{first.rpartition(',')[0]},long\n")
    assert f"{csv_of(corpus)}: line 2: not the metadata of a mixture of two" in error()
    csv_of(corpus).write_text(head + "\n" + first.replace("_21-", "_11-", 1) + "\n")
    assert (
        f"{csv_of(corpus)}: line 2: 11-511-0000_11-521-0000: both sources are of one speaker"
        in error()
    )
    csv_of(corpus).write_text(head + "\n")
    assert f"{csv_of(corpus)}: has no mixture" in error()
    csv_of(corpus).unlink()
    assert f"{csv_of(corpus)}: no such file; generate mixtures of type mix_both" in error()
    rttm = corpus / "metadata/LibriSpeech/train_clean_100.rttm"
    rttm.write_text(rttm.read_text().splitlines()[0] + "\n")
    assert f"{rttm}: has no turns of 520-0000, a source of mixture 10-510-0000_20-" in error()
    rttm.unlink()
    assert f"{rttm}: no such file; --rttm_dir names metadata/LibriSpeech" in error()
    shutil.rmtree(folder)
    assert f"{corpus}: has no Libri2Mix/wav16k/max/metadata/mixture_*.csv; " in error()
    shutil.rmtree(corpus)
    assert f"{corpus}: no such directory; LIBRIMIX of db.sh names it" in error()
