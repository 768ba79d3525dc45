import numpy as np
import pytest

from espnet_prune.plugin.probes.crops import SpeakerCrops


@pytest.fixture
def training(tmp_path):
    (tmp_path / "spk2utt").write_text("b b-1\na a-1 a-2\n")
    return SpeakerCrops(True, 0.01, spk2utt=str(tmp_path / "spk2utt"), sample_rate=1000)


def test_random_crops(training):
    speech = np.arange(25.0)
    begins = set()
    for _ in range(400):
        data = training("a-1", {"speech": speech, "spk_labels": "a"})
        begin = int(data["speech"][0])
        np.testing.assert_array_equal(data["speech"], speech[begin : begin + 10])
        assert data["spk_labels"].tolist() == [1]  # the second line
        begins.add(begin)
    assert begins == set(range(16))


@pytest.mark.parametrize("samples", [1, 4, 9, 10])
def test_short_utterances_are_repeated(training, samples):
    data = training("b-1", {"speech": np.arange(float(samples)), "spk_labels": "b"})
    assert data["speech"].tolist() == [float(n % samples) for n in range(10)]


def test_both_sides_of_a_trial():
    validation = SpeakerCrops(False, 0.01, sample_rate=1000, num_eval=2)
    data = {"speech": np.arange(30.0), "speech2": np.arange(10.0), "spk_labels": "1"}
    data = validation("a-1*b-1", data)
    assert data["speech"].shape == data["speech2"].shape == (2, 10)
    assert data["speech"][:, 0].tolist() == [0, 20] and data["spk_labels"].tolist() == [1]
