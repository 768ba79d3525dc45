from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_prune.data import audio
from espnet_prune.data.audio import (
    at_rate,
    check_speech,
    check_whole,
    length_of,
    load_speech,
    read_speech,
    resample,
    write_speech,
    written_samples,
)


def tone(seconds=0.5, rate=16000, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype("f4")


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((2, 100)), 16000, "x: has shape .2, 100. instead of one channel"),
        (np.zeros(0), 16000, "x: is empty"),
        (np.zeros(9000, np.int16), 16000, "x: has samples of type int16"),
        (9000 * tone(), 16000, r"x: .* of 8000 samples are beyond \[-1, 1\], .* divide by 32768"),
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
    soundfile.write(path, np.stack([tone(), -tone()], axis=1), 16000)
    with pytest.raises(ValueError, match="a.flac: has 2 channels instead of one; write the wanted"):
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
    assert not path.parent.exists()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/a.wav"):
        write_speech(Path(tmp_path / "file" / "a.wav"), tone(), 16000)


def coded(folder, name, samples=None, rate=16000, **options):
    """A file in some format, of 5 s of noise that grows louder when nothing else is given."""
    if samples is None:
        noise = np.random.default_rng(0).standard_normal(5 * rate)
        samples = (0.1 * noise * np.linspace(0, 1, 5 * rate) ** 2).astype("f4")
    soundfile.write(folder / name, samples, rate, **options)
    return folder / name


FORMATS = {
    "a.wav": {},
    "f.wav": {"subtype": "FLOAT"},
    "gsm.wav": {"subtype": "GSM610", "rate": 8000},
    "ima.wav": {"subtype": "IMA_ADPCM"},
    "x.wav": {"format": "WAVEX"},
    "a.rf64": {"format": "RF64"},
    "a.w64": {},
    "a.aiff": {},
    "a.au": {},
    "a.caf": {},
    "a.sph": {"format": "NIST"},
    "a.flac": {},
    "a.ogg": {},
    "o.opus": {"format": "OGG", "subtype": "OPUS"},
    "a.mp3": {},
    "v.mp3": {"bitrate_mode": "VARIABLE", "rate": 44100},
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_a_file_that_was_cut_is_refused_and_a_whole_one_is_read(tmp_path, name, part):
    path = coded(tmp_path, name, **FORMATS[name])
    samples, rate = read_speech(path)
    assert (len(samples), rate) == length_of(path) and 0 <= len(samples) - 5 * rate < 1000
    second, _ = read_speech(path, 1.0, 1.5)  # GSM cannot be sought in
    assert len(second) == rate // 2
    assert np.abs(second - samples[rate : rate + rate // 2]).max() < 0.01
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ValueError, match=f"{name}: (ends early|not audio that can be read)"):
        read_speech(path)
    assert written_samples(path, rate) is None or name in ("a.mp3", "v.mp3")  # we write none


def test_an_mp3_without_table_of_contents(tmp_path):
    path = coded(tmp_path, "v.mp3", bitrate_mode="VARIABLE")
    content = path.read_bytes()
    path.write_bytes(b"ID3\x04\0\0\0\0\0\x05hello" + content[content.index(content[:2], 4) :])
    samples, rate = read_speech(path)  # libsndfile's own guess is three times as long
    assert len(samples) == length_of(path)[0] and 0 <= len(samples) - 5 * rate < 2000
    whole = path.read_bytes()
    path.write_bytes(whole + b"TAG" + bytes(125))
    assert len(read_speech(path)[0]) == len(samples)
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="v.mp3: ends early, it has .* bytes of the last frame"):
        read_speech(path)


@pytest.mark.parametrize(
    ("total", "message"),
    [
        (0, "does not say how long it is, as if written to a pipe; encode it into a file"),
        (2**36 - 1, "announces 68719476735 samples in .* bytes; it is damaged"),
        (90000, "not audio that can be read|ends early, it has 80000 of 90000 samples"),
    ],
)
def test_a_flac_header_is_not_believed(tmp_path, total, message):
    path = coded(tmp_path, "a.flac")
    content = bytearray(path.read_bytes())
    content[21:26] = (content[21] >> 4 << 36 | total).to_bytes(5, "big")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a.flac: ({message})"):
        read_speech(path)


def test_a_damaged_flac_is_refused(tmp_path):
    path = coded(tmp_path, "a.flac")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.flac: not audio that can be read"):
        read_speech(path)


def test_formats_whose_end_nobody_knows_are_refused(tmp_path):
    path = coded(tmp_path, "a.voc")
    with pytest.raises(ValueError, match="a.voc: is VOC, of which nobody can tell"):
        read_speech(path)


def test_floats_beyond_the_range_are_refused_but_not_what_a_decoder_overshoots(tmp_path):
    square = np.sign(tone(1.0)) * np.float32(0.999)
    with pytest.raises(ValueError, match=r"f.wav: .* samples are beyond \[-1, 1\]"):
        read_speech(coded(tmp_path, "f.wav", 32768 * tone(), subtype="FLOAT"))
    with pytest.raises(ValueError, match=r"a.ogg: .* samples are beyond \[-1, 1\]"):
        read_speech(coded(tmp_path, "a.ogg", 300 * square))
    path = coded(tmp_path, "s.ogg", square)
    assert soundfile.read(path)[0].max() > 1.0
    assert read_speech(path)[0].max() == 1.0


def test_several_channels_are_refused_before_they_are_read(tmp_path):
    path = coded(tmp_path, "s.wav", np.stack([tone(), -tone()], axis=1))
    for read in (read_speech, length_of, load_speech):
        with pytest.raises(ValueError, match="s.wav: has 2 channels instead of one"):
            read(path)


@pytest.mark.parametrize("rate", [44101, 22051, 16001, 2**31 - 1, 16793216, 1600000, 100])
def test_rates_without_a_ratio_are_refused_before_memory_is_taken(rate):
    with pytest.raises(ValueError, match=f"u: has {rate} Hz, which cannot be made 16000 Hz"):
        at_rate(tone(), rate, "u", 16000)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 44100, 48000, 96000])
def test_rates_that_recorders_have_are_taken(rate):
    loud = np.sign(tone(0.2, rate, 50.0)) * np.float32(0.999)
    samples = at_rate(loud, rate, "u", 16000)
    assert abs(len(samples) - 3200) <= 1 and np.abs(samples).max() <= 1.0


def test_what_is_out_of_range_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"a.flac: .* beyond \[-1, 1\]"):
        write_speech(tmp_path / "a.flac", tone() * 3, 16000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.flac", "a.wav"])
def test_half_a_file_of_an_earlier_run_does_not_count(tmp_path, name):
    path = tmp_path / name
    write_speech(path, tone(5.0), 16000)
    assert written_samples(path, 16000) == 80000 and written_samples(path, 8000) is None
    path.write_bytes(path.read_bytes()[:-1000])
    assert written_samples(path, 16000) is None


def test_a_flac_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """A few hundred kilobytes of silence that would be a gigabyte in memory."""
    path = tmp_path / "a.flac"
    with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as audio:
        for _ in range(40):
            audio.write(np.zeros(2**20, np.int16))
    assert path.stat().st_size < 2**20
    with pytest.raises(ValueError, match="a.flac: announces 41943040 samples in .* bytes"):
        read_speech(path)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("fs", [8000, 16000])
@pytest.mark.parametrize("length", [1, 5000, 9999, 10000, 23456])
def test_blocks_of_resampling_cannot_be_heard(monkeypatch, rate, fs, length):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, length).astype("f4")
    whole = resample(noise, rate, fs)
    assert len(whole) == -(-length * fs // rate)
    monkeypatch.setattr(audio, "_BLOCK", 5000)
    np.testing.assert_allclose(resample(noise, rate, fs), whole, atol=2e-6)


def test_no_sample_is_lost_where_float32_cannot_count_them():
    """A 441st of a sample more than 101,239: torchaudio rounds it away."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 139519).astype("f4")
    lengths = [len(resample(noise[:n], 22050, 16000)) for n in range(139300, 139519)]
    assert lengths == [-(-n * 320 // 441) for n in range(139300, 139519)]
