"""Archives that kaldiio and ESPnet write, read here; reading what is no audio, or not there."""

import io
import pickle

import kaldiio
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espnet_prune.data import audio, data_dir
from espnet_prune.files import archives
from espnet_prune.files.freshness import digest, stamp


def noise(length, seed=0):
    return np.random.default_rng(seed).integers(-3000, 3000, length).astype(np.int16)


def written(folder, waves, kind, rate=16000):
    """wav.scp of an archive of int16 waves, by key, as kaldiio writes it: kind "flac" or "wav" as
    ESPnet has it, "kaldi" as Kaldi itself."""
    options = {} if kind == "kaldi" else {"write_function": "soundfile"}
    if kind != "kaldi":
        options["write_kwargs"] = {"format": kind, "subtype": "PCM_16"}
    pairs = {key: (rate, wave) for key, wave in waves.items()}
    kaldiio.save_ark(str(folder / "a.ark"), pairs, scp=str(folder / "wav.scp"), **options)
    return data_dir.read_table(folder / "wav.scp")


@pytest.mark.parametrize("kind", ["flac", "wav", "kaldi"])
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lengths=st.lists(st.integers(1, 20000), min_size=1, max_size=5), data=st.data())
def test_all_of_an_archive_or_a_part_is_what_was_written(tmp_path, kind, lengths, data):
    waves = {f"u{number}": noise(length, number) for number, length in enumerate(lengths)}
    scp = written(tmp_path, waves, kind)
    for key, wave in waves.items():
        path = data_dir.audio_path(scp[key])
        assert audio.length_of(path) == (len(wave), 16000)
        assert np.array_equal(audio.load_speech(scp[key]) * 32768, wave)
        begin = data.draw(st.integers(0, len(wave) - 1))
        end = data.draw(st.integers(begin + 1, len(wave)))
        part, rate = audio.read_speech(path, begin / 16000, end / 16000)
        assert rate == 16000 and np.array_equal(part * 32768, wave[begin:end])
    found = {
        name: f"{tmp_path / 'a.ark'}:{at}" for name, at in archives.entries(tmp_path / "a.ark")
    }
    assert found == scp


@pytest.mark.parametrize("kind", ["flac", "wav", "kaldi"])
def test_an_archive_that_ends_early_is_told_of(tmp_path, kind):
    scp = written(tmp_path, {"a": noise(8000), "b": noise(8000)}, kind)
    content = (tmp_path / "a.ark").read_bytes()
    (tmp_path / "a.ark").write_bytes(content[:-100])
    assert audio.read_speech(scp["a"])[0].shape == (8000,)
    with pytest.raises(ValueError, match=rf"{scp['b']}: the archive ends early, it has \d+ of"):
        audio.read_speech(scp["b"])
    with pytest.raises(ValueError, match="the archive ends early"):
        list(archives.entries(tmp_path / "a.ark"))


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("b.ark:5", FileNotFoundError, r"b.ark:5: there is no archive .*/b.ark$"),
        ("a.ark:999999", ValueError, r"a.ark:999999: the archive has \d+ bytes and ends before"),
        ("a.ark:3", ValueError, r"a.ark:3: no audio begins .*, but b'UDIO"),
        ("a.ark:0", ValueError, "no audio begins .*, but b'u AUD'"),
        ("x.ark:2", ValueError, "x.ark:2: no audio begins .*, but b'.x00B"),
        ("p.ark:2", ValueError, "p.ark:2: no audio begins .*, but b'PKL"),
        ("s.ark:2", ValueError, "s.ark:2: has 2 channels instead of one"),
        ("t.ark:2", ValueError, "t.ark:2: not audio that can be read"),
        ("w.ark:2", ValueError, "w.ark:2: the WAV .* does not say how long"),
    ],
)
def test_what_is_no_audio_is_named(tmp_path, place, error, message):
    written(tmp_path, {"u": noise(800)}, "flac")
    kaldiio.save_ark(str(tmp_path / "x.ark"), {"u": np.zeros((2, 3), np.float32)})
    (tmp_path / "p.ark").write_bytes(b"u PKL" + pickle.dumps(lambda_never_called))
    stereo = {"u": (16000, np.zeros((800, 2), np.int16))}
    kaldiio.save_ark(str(tmp_path / "s.ark"), stereo, write_function="soundfile")
    (tmp_path / "t.ark").write_bytes(b"u AUDIO\x01\x10this is no audio")
    piped = io.BytesIO()
    soundfile.write(piped, noise(800), 16000, format="WAV")
    content = piped.getvalue()
    (tmp_path / "w.ark").write_bytes(b"u " + content[:4] + b"\xff" * 4 + content[8:])
    with pytest.raises(error, match=message):
        audio.read_speech(tmp_path / place)


def lambda_never_called():
    raise AssertionError("unpickled")


def test_a_file_whose_name_ends_like_a_place_is_that_file(tmp_path):
    audio.write_speech(tmp_path / "a.wav", np.zeros(800, np.float32), 16000)
    (tmp_path / "a.wav").rename(tmp_path / "a:12")
    assert archives.place_of(tmp_path / "a:12") == (tmp_path / "a:12", None)
    assert audio.length_of(tmp_path / "a:12") == (800, 16000)
    assert archives.place_of(tmp_path / "b:12") == (tmp_path / "b", 12)


@pytest.mark.parametrize("content", [b"nothing", b"u AUDIO", b"u AUDIO\x09" + b"1" * 20])
def test_names_in_what_is_no_archive(tmp_path, content):
    (tmp_path / "a.ark").write_bytes(content)
    with pytest.raises(ValueError, match="a.ark.*make the archive again"):
        list(archives.entries(tmp_path / "a.ark"))


def test_no_more_than_the_part_is_read(tmp_path, monkeypatch):
    """Of a large archive neither reading nor asking for a length takes in what is beside."""
    scp = written(tmp_path, {key: noise(160000) for key in "abcd"}, "wav")
    taken = 0
    whole = archives._Part.readinto

    def counting(self, buffer):
        nonlocal taken
        taken += (found := whole(self, buffer))
        return found

    monkeypatch.setattr(archives._Part, "readinto", counting)
    audio.length_of(scp["c"])
    assert 0 < taken < 10000
    assert len(audio.read_speech(scp["c"], 2.0, 3.0)[0]) == 16000
    assert taken < 60000


def test_a_stamp_and_a_digest_change_with_the_archive(tmp_path):
    waves = {"a": noise(800), "b": noise(900)}
    scp = written(tmp_path, waves, "flac")
    stamps, listed = (
        {key: stamp(value) for key, value in scp.items()},
        digest([tmp_path / "wav.scp"]),
    )
    assert stamps["a"] != stamps["b"]
    assert written(tmp_path, waves, "flac") == scp
    # written anew it is the same audio, by its checksums; what cannot read them goes by the time
    assert digest([tmp_path / "wav.scp"]) == listed and stamp(scp["a"]) != stamps["a"]
    written(tmp_path, {"a": noise(800, 5), "b": noise(900)}, "flac")
    assert digest([tmp_path / "wav.scp"]) != listed


def test_a_data_directory_of_archives_is_valid(tmp_path):
    scp = written(tmp_path, {"a": noise(800), "b": noise(900)}, "kaldi")
    tables = {"wav.scp": scp, "utt2spk": {"a": "s", "b": "s"}}
    data_dir.write_dir(tmp_path / "data", tables)
    assert data_dir.validate(tmp_path / "data", need_text=False) == []
    (tmp_path / "a.ark").rename(tmp_path / "b.ark")
    first, _ = data_dir.validate(tmp_path / "data", need_text=False)
    assert f"a: the file {tmp_path / 'a.ark'} does not exist; mend it" in first
