import numpy as np
import pytest

from espnet_prune.recipe.debian import PackageNotFound
from espnet_prune.recipe.voices import VOICES, Flite, trim


@pytest.fixture(scope="module")
def flite(tmp_path_factory):
    try:
        return Flite(tmp_path_factory.mktemp("flite"))
    except PackageNotFound as error:
        pytest.skip(f"Debian packages cannot be had here: {error}")


@pytest.mark.parametrize("voice", VOICES)
def test_every_voice_speaks_the_same_again(flite, voice):
    samples = flite.speak("The bridge opened in May.", voice)
    assert samples.dtype == np.float32 and 1.0 < len(samples) / 16000 < 3.0
    assert 0.05 < np.abs(samples).max() <= 1.0
    assert np.array_equal(samples, flite.speak("The bridge opened in May.", voice))


def test_speed_and_dashes(flite):
    slow, fast = (flite.speak("-- the harbour office", "slt", speed) for speed in (0.8, 1.25))
    assert len(fast) < 0.8 * len(slow)


def test_errors(flite):
    with pytest.raises(ValueError, match="unknown voice 'bob', choose from slt"):
        flite.speak("yes", "bob")
    with pytest.raises(ValueError, match="nothing to speak"):
        flite.speak("...", "slt")


def test_trim():
    silence, speech = np.zeros(8000, np.float32), np.full(1600, 0.5, np.float32)
    assert len(trim(np.concatenate([silence, speech, silence]))) == 1600 + 2 * 320 - 1
    assert len(trim(silence)) == 8000
