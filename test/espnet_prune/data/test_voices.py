import os
import pickle

import numpy as np
import pytest

from espnet_prune.data import voices as module
from espnet_prune.data.voices import FLITE, NATURAL_SPEAKERS, NATURAL_VOICES, Flite, Voices, trim
from espnet_prune.extras import MissingExtraError
from espnet_prune.hub.debian import PackageNotFound

SENTENCE = "The bridge opened in May."


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    return Voices(tmp_path_factory.mktemp("voices"))


def spoken(voices, voice, text=SENTENCE, speed=1.0):
    try:
        return voices(text, voice, speed)
    except PackageNotFound as error:
        pytest.skip(f"Debian packages cannot be had here: {error}")
    except (MissingExtraError, FileNotFoundError) as error:
        pytest.skip(str(error))


SPEAKERS = [*NATURAL_VOICES, *FLITE, "en-us", "en+f2", "en-gb-scotland", "kokoro-jm_kumo"]


@pytest.mark.parametrize("voice", SPEAKERS)
def test_every_voice_speaks_the_same_again(voices, voice):
    samples = spoken(voices, voice)
    assert samples.dtype == np.float32 and 1.0 < len(samples) / 16000 < 3.0
    assert 0.05 < np.abs(samples).max() <= 1.0
    spoken(voices, voice, "Something else.")
    assert np.array_equal(samples, spoken(voices, voice))


@pytest.mark.parametrize("voice", ["hibari", "joe", "slt", "en-us"])
def test_speed_and_dashes(voices, voice):
    slow, fast = (spoken(voices, voice, "-- the harbour office", s) for s in (0.8, 1.25))
    assert len(fast) < 0.8 * len(slow)


def test_styles_of_kokoro_mix(voices):
    one, mixed, other = (
        spoken(voices, f"kokoro-{style}") for style in ("jm_kumo", "jm_kumo+jf_alpha", "jf_alpha")
    )
    assert not np.array_equal(one, mixed) and not np.array_equal(other, mixed)
    assert np.array_equal(mixed, spoken(voices, "kokoro-jf_alpha+jm_kumo"))


def test_pitch_comes_behind_a_colon(voices):
    def measured(voice):
        """Middle of the spectrum up to 3 kHz, and samples."""
        samples = spoken(voices, voice)
        power = np.abs(np.fft.rfft(samples)) ** 2
        frequency = np.linspace(0, 8000, len(power))
        low = frequency < 3000
        return (power * frequency)[low].sum() / power[low].sum(), len(samples)

    (own, length), (high, other) = measured("joe"), measured("joe:1.25")
    assert 1.1 < high / own < 1.4 and other == pytest.approx(length, rel=0.1)
    assert set(NATURAL_SPEAKERS) >= set(NATURAL_VOICES)
    for voice in ("joe:", "joe:x", "joe:3"):
        with pytest.raises(ValueError, match=f"voice '{voice}': give a number from 0.5 to 2"):
            voices("yes", voice)


def test_another_process_gets_its_own(voices):
    again = pickle.loads(pickle.dumps(voices))
    assert np.array_equal(spoken(voices, "en-us"), spoken(again, "en-us"))


@pytest.mark.parametrize(
    ("text", "voice", "message"),
    [
        ("yes", "bob", "unknown voice 'bob', choose from hibari, joe, kokoro-jf_alpha"),
        ("yes", "en-nowhere", "unknown voice 'en-nowhere'"),
        ("yes", "kokoro-bob", "unknown style 'bob' of Kokoro, choose from jf_alpha, "),
        ("...", "en-us", "nothing to speak"),
    ],
)
def test_errors(voices, text, voice, message):
    with pytest.raises(ValueError, match=message):
        voices(text, voice)


def test_espeak_leaves_no_thread_behind(voices, monkeypatch):
    """One that runs on in an unloaded library ends the process."""
    during = []
    unload = module._ctypes.dlclose

    def counted(handle):
        during.append(set(os.listdir("/proc/self/task")))
        unload(handle)

    monkeypatch.setattr(module._ctypes, "dlclose", counted)
    voices("yes", "en-us")  # what starts threads once has started them
    for voice in ("en-us", "en-nowhere"):
        before = set(os.listdir("/proc/self/task"))
        during.clear()
        try:
            voices("yes", voice)
        except ValueError:
            assert voice == "en-nowhere"
        assert len(during) == 1 and during[0] <= before


def test_trim():
    silence, speech = np.zeros(8000, np.float32), np.full(1600, 0.5, np.float32)
    assert len(trim(np.concatenate([silence, speech, silence]))) == 1600 + 2 * 320 - 1
    assert len(trim(silence)) == 8000


def test_what_the_loader_misses_is_fetched(tmp_path, monkeypatch):
    """A program as Debian 13 has it, on a machine without sound."""
    program = tmp_path / "tree" / "usr" / "bin" / "flite"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n[ -e $0.sound ] || { echo libasound.so.2 >&2; exit 127; }\n")
    program.chmod(0o755)
    asked = []

    def fetch(names, work):
        asked.extend(names)
        if names == ["libasound2t64"]:
            raise PackageNotFound("no candidate")
        if names == ["libasound2"]:
            (program.parent / "flite.sound").touch()
        return tmp_path / "tree"

    monkeypatch.setattr(module, "fetch_packages", fetch)
    for _ in range(2):
        Flite(tmp_path)
    assert asked == ["flite", "libflite1", "libasound2t64", "libasound2", "flite", "libflite1"]
