"""Archives that `data format` and `data pack` write: the same audio as files, for ESPnet, too."""

import re

import kaldiio
import numpy as np
import pytest
import soundfile
from espnet2.train.dataset import ESPnetDataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espnet_prune.data import data_dir, recordings
from espnet_prune.data.audio import load_speech
from espnet_prune.data.formatting import format_wav
from espnet_prune.data.packing import pack

ARCHIVES = [kind for kind in data_dir.AUDIO_FORMATS if kind.endswith("ark")]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(recordings, "PER_ARCHIVE", 2)


def directory(folder, lengths, rate=16000):
    """A data directory of noise of so many samples each, and the samples."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    waves = {
        f"u{number}": rng.integers(-32768, 32768, length).astype(np.int16)
        for number, length in enumerate(lengths)
    }
    for key, wave in waves.items():
        soundfile.write(folder / f"{key}.wav", wave, rate, subtype="PCM_16")
    data_dir.write_dir(
        folder / "data",
        {
            "wav.scp": {key: folder / f"{key}.wav" for key in waves},
            "utt2spk": dict.fromkeys(waves, "s"),
            "text": dict.fromkeys(waves, "text"),
        },
    )
    return folder / "data", waves


def times(out):
    return {path.name: path.stat().st_mtime_ns for path in (out / "data").glob("*.ark")}


@pytest.mark.parametrize("kind", ARCHIVES)
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lengths=st.lists(st.integers(1600, 5000), min_size=1, max_size=6))
def test_archives_hold_what_files_would_for_us_and_for_espnet(tmp_path, kind, lengths):
    source, waves = directory(tmp_path, lengths)
    format_wav(source, tmp_path / "out", audio_format=kind)
    assert data_dir.validate(tmp_path / "out") == []
    scp = data_dir.read_scp(tmp_path / "out" / "wav.scp")
    names = {re.sub(r":\d+$", "", path) for path in scp.values()}
    folder = (tmp_path / "out" / "data").resolve()
    assert names == {f"{folder}/{n + 1:06d}.{kind}" for n in range(-(-len(lengths) // 2))}
    counts = data_dir.read_counts(tmp_path / "out" / "utt2num_samples")
    assert counts == dict(zip(waves, lengths, strict=True))
    dataset = ESPnetDataset(
        [(str(tmp_path / "out" / "wav.scp"), "speech", "kaldi_ark")], float_dtype="float32"
    )
    for key, wave in waves.items():
        assert np.array_equal(load_speech(scp[key]) * 32768, wave)
        assert np.array_equal(dataset[key][1]["speech"] * 32768, wave)


@pytest.mark.parametrize("kind", ["flac.ark", "wav.ark", "kaldi"])
def test_what_is_made_of_archives_is_what_is_made_of_files(tmp_path, kind):
    """Formatting (another rate, a segment) and packing of an archive, and of files."""
    source, waves = directory(tmp_path, [4000, 8000, 6000], rate=8000)
    tables = data_dir.read_dir(source)
    segments = {
        **{f"{key}-1": f"{key} 0 0.3" for key in waves},
        **{f"{key}-2": f"{key} 0.25 0.5" for key in waves},
    }
    tables = {
        "wav.scp": tables["wav.scp"],
        "segments": segments,
        "utt2spk": dict.fromkeys(segments, "s"),
    }
    data_dir.write_dir(source, tables)
    options = {} if kind == "kaldi" else {"write_function": "soundfile"}
    if kind == "flac.ark":
        options["write_kwargs"] = {"format": "flac", "subtype": "PCM_16"}
    pairs = {key: (8000, wave) for key, wave in waves.items()}
    kaldiio.save_ark(str(tmp_path / "a.ark"), pairs, scp=str(tmp_path / "scp"), **options)
    tables["wav.scp"] = data_dir.read_table(tmp_path / "scp")
    data_dir.write_dir(tmp_path / "archived", tables)
    made = {}
    written = {"files": "flac", "archived": "wav.ark" if kind == "kaldi" else kind}
    for name, audio_format in written.items():
        given = source if name == "files" else tmp_path / "archived"
        out = tmp_path / f"{name}_out" / "set"
        format_wav(given, out, audio_format=audio_format)
        pack(out, tmp_path / f"{name}_packed", window=1.0)
        found = [out, tmp_path / f"{name}_packed"]
        made[name] = [
            {key: load_speech(path) for key, path in data_dir.read_scp(each / "wav.scp").items()}
            for each in found
        ]
        places = data_dir.read_scp(found[1] / "wav.scp").values()
        assert all(re.search(rf"\.{audio_format}(:\d+)?$", place) for place in places)
    for files, archived in zip(made["files"], made["archived"], strict=True):
        assert files.keys() == archived.keys() and files
        assert all(np.array_equal(files[key], archived[key]) for key in files)


def test_an_archive_is_written_anew_when_one_of_its_recordings_is_another(tmp_path):
    source, waves = directory(tmp_path, [2000] * 5)
    out = tmp_path / "out"
    options = {"audio_format": "flac.ark"}
    format_wav(source, out, **options)
    before = times(out)
    assert "(5 of them written by an earlier run)" in format_wav(source, out, **options)[0]
    assert times(out) == before
    soundfile.write(tmp_path / "u3.wav", waves["u3"][:1800], 16000)
    (line,) = format_wav(source, out, **options)
    assert "(3 of them written by an earlier run)" in line
    after = times(out)
    assert {name for name in before if before[name] != after[name]} == {"000002.flac.ark"}
    # a damaged one, and one that is gone
    first, _, third = sorted((out / "data").glob("*.ark"))
    first.write_bytes(first.read_bytes()[:-1])
    third.unlink()
    assert "(2 of them written by an earlier run)" in format_wav(source, out, **options)[0]
    scp = data_dir.read_scp(out / "wav.scp")
    assert all(np.array_equal(load_speech(scp[k]) * 32768, waves[k]) for k in ("u0", "u1", "u4"))
    # fewer utterances, other code, another format: nothing of before is left
    assert "(0 of them written" in format_wav(source, out, audio_format="wav.ark")[0]
    assert {path.suffixes[-2] for path in (out / "data").iterdir()} == {".wav"}
    format_wav(source, out)
    assert [path.name for path in (out / "data").iterdir()] == ["s"]


def test_bad_utterances_are_left_out_and_told_of_again(tmp_path):
    source, waves = directory(tmp_path, [2000, 20, 2000, 30, 30, 2000])
    out = tmp_path / "out"
    options = {"audio_format": "wav.ark", "skip_bad": True}
    with pytest.raises(ValueError, match="3 of 6 utterances are bad"):
        format_wav(source, out, audio_format="wav.ark")
    assert not (out / "wav.scp").exists()
    first = format_wav(source, out, **options)
    assert "(3 of them written by an earlier run)" in first[0]
    before = times(out)
    bad = data_dir.read_table(out / "bad_utts")
    assert set(bad) == {"u1", "u3", "u4"} and "shorter than 0.1 s" in bad["u1"]
    assert format_wav(source, out, **options) == first and times(out) == before
    assert data_dir.read_table(out / "bad_utts") == bad
    assert set(data_dir.read_scp(out / "wav.scp")) == {"u0", "u2", "u5"}
    # what was bad is good later
    soundfile.write(tmp_path / "u1.wav", waves["u0"], 16000)
    assert "4 utterances" in format_wav(source, out, **options)[0]


def test_the_table_goes_before_the_archives_that_it_tells_of(tmp_path):
    source, waves = directory(tmp_path, [2000, 2000])
    format_wav(source, tmp_path / "out", audio_format="wav.ark")
    soundfile.write(tmp_path / "u0.wav", waves["u0"][:10], 16000)
    with pytest.raises(ValueError, match="1 of 2 utterances are bad"):
        format_wav(source, tmp_path / "out", audio_format="wav.ark")
    assert not (tmp_path / "out" / "wav.scp").exists()
