from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_prune.data.audio import (
    check_speech,
    check_whole,
    load_speech,
    read_speech,
    resample,
    write_speech,
)


def tone(seconds=0.5, rate=16000, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype("f4")


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((2, 100)), 16000, "x: has shape .2, 100. instead of one channel"),
        (np.zeros(0), 16000, "x: is empty"),
        (np.zeros(100), 8000, "x: has 8000 Hz instead of 16000 Hz; run .*data format --fs 16000"),
        (np.array([0.0, np.nan]), 16000, "x: 1 of 2 samples are NaN"),
        (np.zeros(100), 16000, "x: lasts 0.006 s, shorter than 0.1 s"),
    ],
)
def test_check_speech_messages(samples, rate, message):
    with pytest.raises(ValueError, match=message):
        check_speech(samples, rate, "x", fs=16000, min_seconds=0.1)


def test_check_speech_takes_good_speech():
    check_speech(tone(), 16000, "x", fs=16000, min_seconds=0.1)


def test_resampling_keeps_a_tone():
    change = resample(tone(1.0, 8000), 8000, 16000) - tone(1.0, 16000)
    assert np.abs(change[200:-200]).max() < 0.01


@pytest.mark.parametrize("length", [0, 0xFFFFFFFF])
def test_lengths_that_nobody_knew_are_not_judged(tmp_path, length):
    path = tmp_path / "piped.wav"
    soundfile.write(path, np.zeros(800, np.float32), 16000, subtype="PCM_16")
    content = path.read_bytes()
    at = content.index(b"data") + 4
    path.write_bytes(content[:at] + length.to_bytes(4, "little") + content[at + 4 :])
    check_whole(path)


def test_chunks_before_the_audio_are_passed_over(tmp_path):
    path = tmp_path / "noted.wav"
    soundfile.write(path, np.zeros(800, np.float32), 16000, subtype="PCM_16")
    content = path.read_bytes()
    at = content.index(b"data")
    noted = content[:at] + b"note\x03\0\0\0abc\0" + content[at:]
    path.write_bytes(noted)
    check_whole(path)
    path.write_bytes(noted[:-2])
    with pytest.raises(ValueError, match="1598 of 1600 bytes"):
        check_whole(path)


def test_speech_as_a_model_hears_it(tmp_path):
    path = tmp_path / "a.flac"
    write_speech(path, tone(), 16000)
    samples = load_speech(f"cat {path} |", num_samples=8000)
    assert samples.dtype == np.float32 and samples.shape == (8000,)
    assert np.array_equal(samples, load_speech(path)) and np.abs(samples - tone()).max() < 1e-4
    with pytest.raises(ValueError, match=r"u: .*a.flac: has 16000 Hz instead of 8000 Hz"):
        load_speech(path, 8000, name="u")
    with pytest.raises(ValueError, match="a.flac: has 8000 samples, .* says 8001: it ends early"):
        load_speech(path, num_samples=8001)
    soundfile.write(path, np.stack([tone()] * 2, axis=1), 16000)
    with pytest.raises(ValueError, match=r"has shape \(8000, 2\) instead of one channel"):
        load_speech(str(path))


def test_audio_whose_copying_was_broken_off_is_not_read(tmp_path):
    path = tmp_path / "a.wav"
    write_speech(path, tone(), 16000)
    path.write_bytes(path.read_bytes()[:8000])
    with pytest.raises(ValueError, match="a.wav: ends early, it has 7956 of 16000 bytes"):
        read_speech(path)


def test_audio_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.wav"
    with pytest.raises(TypeError):
        write_speech(path, tone(), "16k")
    assert list(path.parent.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/a.wav"):
        write_speech(Path(tmp_path / "file" / "a.wav"), tone(), 16000)
