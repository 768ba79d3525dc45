import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_prune.data import data_dir
from espnet_prune.recipe.__main__ import main

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def audio(tmp_path):
    for i in range(40):
        path = tmp_path / "audio" / f"{i}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.zeros(1600), 8000)
        path.with_suffix(".txt").write_text("one")
    return tmp_path / "audio"


def test_from_a_folder_of_audio_to_packed_windows(audio, tmp_path, capsys):
    data, dump = tmp_path / "data", tmp_path / "dump"
    assert main(["voice_prompts", str(data), "--audio_dir", str(audio)]) == 0
    train = str(data / "train_ssl")
    assert main(["validate", train, "--no_text", "true"]) == 0
    assert main(["validate", str(data / "train_en")]) == 0
    assert main(["subset", "--first", "9", train, str(data / "nine")]) == 0
    assert main(["combine", str(data / "all"), str(data / "nine"), str(data / "valid_ssl")]) == 0
    assert main(["fix", str(data / "all")]) == 0
    assert main(["format_wav", "--fs", "16k", str(data / "all"), str(dump / "all")]) == 0
    assert "resampled from 8000 Hz" in capsys.readouterr().out
    assert main(["pack", "--window", "1", str(dump / "all"), str(dump / "packed")]) == 0
    assert data_dir.validate(dump / "packed", need_text=False) == []
    scp, pattern = str(dump / "all" / "wav.scp"), str(dump / "wav.JOB.scp")
    assert main(["split", scp, "2", pattern]) == 0
    assert (dump / "wav.2.scp").is_file()


def test_validate_lists_faults_and_fails(audio, tmp_path, capsys):
    assert main(["voice_prompts", str(tmp_path / "d"), "--audio_dir", str(audio)]) == 0
    assert main(["validate", str(tmp_path / "d" / "train_ssl")]) == 1
    shown = capsys.readouterr().err
    assert "train_ssl/text: no such file; add it, or say --no_text true" in shown
    assert "train_ssl: 1 faults, 1 shown" in shown


def test_bad_recordings_are_lines_before_the_error(audio, tmp_path, capsys):
    assert main(["voice_prompts", str(tmp_path / "d"), "--audio_dir", str(audio)]) == 0
    first = next(iter(data_dir.read_table(tmp_path / "d" / "train_ssl" / "wav.scp").values()))
    Path(first).write_bytes(b"")
    capsys.readouterr()
    assert main(["format_wav", str(tmp_path / "d" / "train_ssl"), str(tmp_path / "out")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert any(f"{first}: is empty (0 bytes)" in line for line in lines)
    assert lines[-1].startswith("error: ") and "1 of " in lines[-1] and "--skip_bad" in lines[-1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fix", "/absent"], "error: /absent: no such data directory"),
        (["split", "/absent", "2", "x.JOB"], "error: /absent: no such file"),
        (["pack", "/absent", "/x"], "error: /absent: no such data directory"),
        (["voice_prompts", "/x", "--audio_dir", "/absent"], "error: /absent: no such directory"),
    ],
)
def test_errors_are_one_line(argv, message, capsys):
    assert main(argv) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(message)


@pytest.mark.parametrize(
    "argv",
    [
        ["format_wav", "--fs", "sixteen", "a", "b"],
        ["format_wav", "--skip_bad", "maybe", "a", "b"],
        ["subset", "a", "b"],
        ["nothing"],
    ],
)
def test_unusable_options_are_refused(argv):
    with pytest.raises(SystemExit) as error:
        main(argv)
    assert error.value.code == 2


def test_jobs_and_help_start_as_a_module(tmp_path):
    module = [sys.executable, "-m", "espnet_prune.recipe"]
    subprocess.run([*module, "jobs", f"{tmp_path}/a.log", "true"], cwd=ROOT, check=True)
    assert "# Ended (code 0)" in (tmp_path / "a.log").read_text()
    shown = subprocess.run(
        [*module, "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in ("validate", "fix", "subset", "combine", "split", "format_wav", "pack", "jobs"):
        assert name in shown
