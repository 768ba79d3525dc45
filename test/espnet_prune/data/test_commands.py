"""Commands in wav.scp: refused, or run when a user says so."""

import os
import re

import numpy as np
import pytest
import soundfile

from espnet_prune.data import commands, data_dir
from espnet_prune.data.audio import load_speech
from espnet_prune.data.formatting import format_wav


@pytest.fixture
def source(tmp_path):
    """One recording that a command prints, of 8000 samples at 8 kHz, and another at 16 kHz."""
    waves = [np.random.default_rng(n).integers(-999, 999, 8000).astype(np.int16) for n in range(2)]
    for number, rate in enumerate([8000, 16000]):
        soundfile.write(tmp_path / f"{number}.wav", waves[number], rate)
    tables = {
        "wav.scp": {"a": f"cat '{tmp_path}/0.wav' | cat |", "b": f"cat < {tmp_path}/1.wav |"},
        "utt2spk": {"a": "s", "b": "s"},
    }
    data_dir.write_dir(tmp_path / "data", tables)
    commands._output_of.cache_clear()
    return tmp_path / "data"


def change(source, value):
    tables = data_dir.read_dir(source)
    tables["wav.scp"]["b"] = value
    data_dir.write_dir(source, tables)


def test_commands_are_run_only_when_that_is_allowed(source, tmp_path):
    change(source, f"touch {tmp_path}/ran |")
    with pytest.raises(ValueError, match="b: 'touch .* is a command; .* --allow_commands"):
        format_wav(source, tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ValueError, match="b: touch .*ran .: is empty .0 bytes."):
        format_wav(source, tmp_path / "out", allow_commands=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("audio_format", ["flac", "wav.ark"])
def test_what_they_print_is_formatted_and_is_fresh_as_files_are(source, tmp_path, audio_format):
    options = {"allow_commands": True, "audio_format": audio_format}
    plain = tmp_path / "plain"
    tables = data_dir.read_dir(source)
    tables["wav.scp"] = {"a": f"{tmp_path}/0.wav", "b": f"{tmp_path}/1.wav"}
    data_dir.write_dir(plain, tables)
    made = []
    for given in (source, plain):
        format_wav(given, tmp_path / f"{given.name}_out", **options)
        scp = data_dir.read_scp(tmp_path / f"{given.name}_out" / "wav.scp")
        made.append([load_speech(path) for path in scp.values()])
    assert len(made[0]) == 2 and all(map(np.array_equal, *made))
    out = tmp_path / "data_out"

    def kept():
        first, *_ = format_wav(source, out, **options)
        return int(re.search(r"\((\d+) of them written by", first)[1])

    assert kept() == 2
    later = os.stat(tmp_path / "1.wav").st_mtime + 10
    os.utime(tmp_path / "1.wav", (later, later))
    assert kept() == (1 if audio_format == "flac" else 0)
    change(source, f"cat - < {tmp_path}/1.wav |")
    assert kept() == (1 if audio_format == "flac" else 0)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo no >&2; exit 3", "b: echo no >&2; exit 3 .: the command ended with status 3: no"),
        ("cat /absent.wav | cat", "ended with status 1: cat: .*No such file"),
        ("echo this is a text", "echo this is a text .: not audio that can be read"),
        ("", "'.' is a command"),
    ],
)
def test_a_command_that_fails_is_a_bad_utterance(source, tmp_path, command, message):
    change(source, f"{command} |")
    with pytest.raises(ValueError, match=message):
        format_wav(source, tmp_path / "out", allow_commands=True)
    *_, last = format_wav(source, tmp_path / "out", allow_commands=True, skip_bad=True)
    assert "1 bad utterances dropped" in last


def test_a_recording_is_printed_once_for_its_segments(source, tmp_path):
    counter = tmp_path / "runs"
    value = f"echo >> {counter}; cat {tmp_path}/0.wav |"
    tables = {
        "wav.scp": {"r": value},
        "segments": {"a": "r 0 0.4", "b": "r 0.4 0.9", "c": "r 0.2 0.5"},
        "utt2spk": dict.fromkeys("abc", "s"),
    }
    data_dir.write_dir(tmp_path / "segmented", tables)
    format_wav(tmp_path / "segmented", tmp_path / "out", allow_commands=True, fs=8000)
    assert counter.read_text() == "\n"
    scp = data_dir.read_scp(tmp_path / "out" / "wav.scp")
    whole = soundfile.read(tmp_path / "0.wav", dtype="float32")[0]
    assert np.array_equal(load_speech(scp["b"], 8000), whole[3200:7200])
