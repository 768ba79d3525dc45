from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_prune.cli import main
from espnet_prune.data import data_dir
from test.espnet_prune.commands import error_of


@pytest.fixture
def audio(tmp_path):
    for i in range(40):
        path = tmp_path / "audio" / f"{i}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.zeros(1600), 8000)
        path.with_suffix(".txt").write_text("one")
    return tmp_path / "audio"


def test_from_a_folder_of_audio_to_packed_windows(audio, tmp_path, capsys):
    def data(verb, *words):
        main(["data", verb, *map(str, words)])

    raw, dump = tmp_path / "data", tmp_path / "dump"
    main(["corpus", "voice_prompts", str(raw), "--audio_dir", str(audio)])
    train = raw / "train_ssl"
    assert f"{train}: " in capsys.readouterr().out
    data("validate", train, "--no_text", "true")
    data("validate", raw / "train_en")
    data("subset", "--first", 9, train, raw / "nine")
    data("combine", raw / "all", raw / "nine", raw / "valid_ssl")
    data("fix", raw / "all")
    data("format", "--fs", "16k", raw / "all", dump / "all")
    assert "resampled from 8000 Hz" in capsys.readouterr().out
    data("pack", "--window", 1, dump / "all", dump / "packed")
    assert data_dir.validate(dump / "packed", need_text=False) == []
    data("split", dump / "all" / "wav.scp", 2, dump / "wav.JOB.scp")
    assert (dump / "wav.2.scp").is_file()


def test_validate_lists_faults_and_fails(audio, tmp_path, capsys):
    main(["corpus", "voice_prompts", str(tmp_path / "d"), "--audio_dir", str(audio)])
    with pytest.raises(SystemExit):
        main(["data", "validate", str(tmp_path / "d" / "train_ssl")])
    shown = capsys.readouterr().err
    assert "train_ssl/text: no such file; add it, or say --no_text true" in shown
    assert "train_ssl: 1 faults, 1 shown" in shown


def test_bad_recordings_are_lines_before_the_error(audio, tmp_path, capsys):
    main(["corpus", "voice_prompts", str(tmp_path / "d"), "--audio_dir", str(audio)])
    first = next(iter(data_dir.read_table(tmp_path / "d" / "train_ssl" / "wav.scp").values()))
    Path(first).write_bytes(b"")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["data", "format", str(tmp_path / "d" / "train_ssl"), str(tmp_path / "out")])
    lines = capsys.readouterr().err.splitlines()
    assert any(f"{first}: is empty (0 bytes)" in line for line in lines)
    assert lines[-1].startswith("error: ") and "1 of " in lines[-1] and "--skip_bad" in lines[-1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["data", "fix", "/absent"], "error: /absent: no such data directory"),
        (["data", "split", "/absent", "2", "x.JOB"], "error: /absent: no such file"),
        (["data", "pack", "/absent", "/x"], "error: /absent: no such data directory"),
        (
            ["corpus", "voice_prompts", "/x", "--audio_dir", "/absent"],
            "error: /absent: no such directory",
        ),
    ],
)
def test_errors_are_one_line(argv, message, capsys):
    assert error_of(capsys, *argv).startswith(message)


@pytest.mark.parametrize(
    "argv",
    [
        ["format", "--fs", "sixteen", "a", "b"],
        ["format", "--skip_bad", "maybe", "a", "b"],
        ["subset", "a", "b"],
        ["nothing"],
    ],
)
def test_unusable_options_are_refused(argv):
    with pytest.raises(SystemExit) as error:
        main(["data", *argv])
    assert error.value.code == 2


def test_help_names_every_verb(capsys):
    main(["data", "--help"])
    shown = capsys.readouterr().out
    for name in ("validate", "fix", "subset", "combine", "split", "format", "pack", "fresh"):
        assert f"  {name} " in shown


def test_results_of_other_inputs(tmp_path, capsys):
    config, results = tmp_path / "config", tmp_path / "exp"
    config.write_text("a: 1\n")
    main(["data", "fresh", str(results), str(config), "seed 0"])
    (results / "model").touch()
    main(["data", "fresh", str(results), str(config), "seed 0"])
    error = error_of(capsys, "data", "fresh", results, config, "seed 1")
    assert error.startswith(f"error: {results} was made from other data, models or options")
    config.write_text("a: 2\n")
    assert "was made from" in error_of(capsys, "data", "fresh", results, config, "seed 0")
    (results / "model").unlink()  # nothing is left of the other inputs
    main(["data", "fresh", str(results), str(config), "seed 0"])
    main(["data", "digest", str(config)])
    main(["data", "digest", str(tmp_path / "absent")])
    first, second = capsys.readouterr().out.split()
    assert first != second and len(first) == len(second) == 64
