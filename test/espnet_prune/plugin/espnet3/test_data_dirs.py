import numpy as np
import pytest
import soundfile

pytest.importorskip("espnet3", reason="ESPnet 3 comes with ESPnet 202611")

from espnet_prune.plugin.espnet3.data_dirs import DataDir, read_texts


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.full(160, 0.25), 16000)
    (tmp_path / "wav.scp").write_text("".join(f"{n} {tmp_path}/{n}.wav\n" for n in "ab"))
    (tmp_path / "text").write_text("a YES\nb GO ON\n")
    return tmp_path


def test_items_are_speech_and_text(folder):
    dataset = DataDir(str(folder))
    assert len(dataset) == 2 and dataset[1].keys() == {"speech", "text"}
    assert dataset[1]["text"] == "GO ON" and dataset[1]["speech"].tolist() == [0.25] * 160
    assert read_texts(str(folder)) == ["YES", "GO ON"]


def test_an_utterance_without_a_text(folder):
    (folder / "text").write_text("a YES\n")
    with pytest.raises(ValueError, match="text: has no text of b"):
        DataDir(str(folder))
