import json
import os

import numpy as np
import pytest
import soundfile

from espnet_prune.data.data_dir import claim, read_table, validate, write_table
from espnet_prune.data.sir.directory import (
    group_sentences,
    read_all_items,
    write_part,
    write_recorded_dir,
    write_segments,
)
from espnet_prune.data.sir.items import SirItem
from test.espnet_prune.data.sir.test_items import row, write


def item(name):
    sentences = (("s", "One two."), ("t", "Three."), ("s", "Four."))
    return SirItem(name, "What?", ("x", "y"), 0, "meeting", sentences, (1, 2))


def test_segments_of_whole_sentences():
    spans = [(0, 10), (11, 20), (20.5, 28.5), (29, 60), (61, 62)]
    # 28.5 s are too long with the third one; the fourth is too long by itself
    assert group_sentences(spans, 28) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert group_sentences(spans, 28.5) == [(0, 3), (3, 4), (4, 5)]
    assert group_sentences([(0, 1)], 28) == [(0, 1)]


def test_a_directory_of_segments(tmp_path):
    spans = [[0.1, 1.0], [1.5, 2.0], [2.2, 3.0]]
    write_table(tmp_path / "d" / "wav.scp", {"m_1": "/wav"})
    write_table(tmp_path / "d" / "sentences", {"m_1": json.dumps({"sentences": spans})})
    assert write_segments(tmp_path / "d", [item("m_1")], tmp_path / "w", longest=2.0) == 2
    assert not validate(tmp_path / "w", check_audio=False)
    assert read_table(tmp_path / "w" / "text") == {"m_1-00": "One two. Three.", "m_1-01": "Four."}
    segments = read_table(tmp_path / "w" / "segments")
    assert segments["m_1-00"].split() == ["m_1", "0.1000", "2.0000"]


def test_recordings_that_are_there(tmp_path):
    audio = tmp_path / "audio"
    audio.mkdir()
    soundfile.write(audio / "m_1.wav", np.zeros(8000, np.float32), 8000)
    soundfile.write(audio / "m_2.flac", np.zeros(8000, np.float32), 16000)
    write_recorded_dir([item("m_1"), item("m_2")], audio, tmp_path / "d")
    assert read_table(tmp_path / "d" / "utt2num_samples") == {"m_1": "16000", "m_2": "8000"}
    assert json.loads(read_table(tmp_path / "d" / "questions")["m_2"])["choices"] == ["x", "y"]
    assert not (tmp_path / "d" / "sentences").exists()
    # what was spoken there before, and its segments for the check by Whisper, are gone
    (tmp_path / "d" / "sentences").write_text("m_1 {}\n")
    write_table(tmp_path / "d_windows" / "text", {"m_1-00": "One two."})
    with pytest.raises(ValueError, match="d_windows: holds text, which was not written here"):
        write_recorded_dir([item("m_1")], audio, tmp_path / "d")
    claim(tmp_path / "d_windows")
    (tmp_path / "d_windows" / "notes").touch()
    with pytest.raises(ValueError, match="d_windows: holds notes, which was not written here"):
        write_recorded_dir([item("m_1")], audio, tmp_path / "d")
    (tmp_path / "d_windows" / "notes").unlink()
    write_recorded_dir([item("m_1")], audio, tmp_path / "d")
    assert not (tmp_path / "d" / "sentences").exists() and not (tmp_path / "d_windows").exists()
    # the same names in another folder, with older files as unpacked archives have
    other = tmp_path / "other" / "m_1.wav"
    other.parent.mkdir()
    soundfile.write(other, np.zeros(4000, np.float32), 8000)
    os.utime(other, (1e9, 1e9))
    write_recorded_dir([item("m_1")], other.parent, tmp_path / "d")
    assert read_table(tmp_path / "d" / "utt2num_samples") == {"m_1": "8000"}
    with pytest.raises(FileNotFoundError, match="m_3.wav: no such file, nor m_3.flac"):
        write_recorded_dir([item("m_3")], audio, tmp_path / "e")


def cut(path, share):
    """Leave the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_recordings_whose_copying_was_broken_off(tmp_path):
    path = tmp_path / "m_1.wav"
    soundfile.write(path, np.zeros(8000, np.float32), 16000, subtype="PCM_16")
    cut(path, 0.5)
    assert len(soundfile.read(path)[0]) < 8000  # nobody else says anything
    # 16044 bytes, of which 44 are the header: 8022 - 44 are left of 16000
    with pytest.raises(ValueError, match="m_1.wav: ends early, it has 7978 of 16000 bytes"):
        write_recorded_dir([item("m_1")], tmp_path, tmp_path / "d")
    cut(path, 0.001)  # not even a header
    with pytest.raises(ValueError, match="m_1.wav"):
        write_recorded_dir([item("m_1")], tmp_path, tmp_path / "d")


def test_a_part(tmp_path):
    for name in ("wav.scp", "text", "utt2spk", "questions"):
        write_table(tmp_path / "d" / name, {key: f"{name} {key}" for key in "abc"})
    write_table(tmp_path / "p_windows" / "text", {"a-00": "of an earlier run"})
    claim(tmp_path / "p_windows")
    write_part(tmp_path / "d", tmp_path / "p", ["c", "a"])
    assert not (tmp_path / "p_windows").exists()
    assert read_table(tmp_path / "p" / "questions") == {k: f"questions {k}" for k in "ac"}
    assert not (tmp_path / "p" / "sentences").exists()
    with pytest.raises(ValueError, match="wav.scp: x is not there"):
        write_part(tmp_path / "d", tmp_path / "p", ["x"])


def test_items_of_several_files(tmp_path):
    def file(name, *ids):
        folder = tmp_path / name
        folder.mkdir()
        return write(folder, *(row(metadata={"id": i}) for i in ids))

    first, second = file("1", "b", "c"), file("2", "a")
    assert [i.id for i in read_all_items([first, second])] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="id 'b' is in another file, too"):
        read_all_items([first, file("3", "b")])
