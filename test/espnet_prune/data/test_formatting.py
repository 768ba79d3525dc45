import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_prune.data import data_dir, formatting
from espnet_prune.data.formatting import format_wav
from espnet_prune.data.parallel import parallel_map


def tone(seconds=0.5, rate=16000, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype("f4")


@pytest.fixture
def source(tmp_path):
    """A data directory of three recordings at 16 kHz, 8 kHz and 44.1 kHz."""
    audio = tmp_path / "audio"
    audio.mkdir()
    soundfile.write(audio / "a.wav", tone(), 16000)
    soundfile.write(audio / "b.flac", tone(0.4, 8000), 8000)
    soundfile.write(audio / "c.ogg", tone(0.6, 44100), 44100)
    paths = {"s-a": audio / "a.wav", "s-b": audio / "b.flac", "s-c": audio / "c.ogg"}
    tables = {
        "wav.scp": paths,
        "text": {name: f"text {name}" for name in paths},
        "utt2spk": dict.fromkeys(paths, "s"),
    }
    data_dir.write_dir(tmp_path / "data", tables)
    return tmp_path / "data"


def add(source, name, path):
    tables = data_dir.read_dir(source)
    tables["wav.scp"][name] = str(path)
    tables["text"][name] = "text"
    tables["utt2spk"][name] = "s"
    data_dir.write_dir(source, tables)


@pytest.mark.parametrize(("audio_format", "workers"), [("flac", 1), ("wav", 2)])
def test_all_become_mono_at_one_rate(source, tmp_path, audio_format, workers):
    lines = format_wav(source, tmp_path / "out", audio_format=audio_format, num_workers=workers)
    assert lines == [
        f"{tmp_path / 'out'}: {line}"
        for line in (
            "3 utterances, 0.0 minutes (0 of them written by an earlier run)",
            "1 utterances resampled from 8000 Hz",
            "1 utterances resampled from 44100 Hz",
        )
    ]
    assert data_dir.validate(tmp_path / "out") == []
    assert (tmp_path / "out" / "feats_type").read_text() == "raw\n"
    for name in ("text", "utt2spk", "spk2utt"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    counts = data_dir.read_table(tmp_path / "out" / "utt2num_samples")
    for name, path in data_dir.read_table(tmp_path / "out" / "wav.scp").items():
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert path.endswith(audio_format) and info.frames == int(counts[name])
    assert counts == {"s-a": "8000", "s-b": "6400", "s-c": "9600"}


def test_16_bit_audio_at_the_rate_is_kept_bit_for_bit(tmp_path):
    samples = np.array([0, 1, -1, 32767, -32768] * 400, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    data_dir.write_dir(
        tmp_path / "in", {"wav.scp": {"a": tmp_path / "a.wav"}, "utt2spk": {"a": "s"}}
    )
    format_wav(tmp_path / "in", tmp_path / "out")
    path = data_dir.read_table(tmp_path / "out" / "wav.scp")["a"]
    assert np.array_equal(soundfile.read(path, dtype="int16")[0], samples)


def test_segments_are_cut_out(source, tmp_path):
    rate = 16000
    soundfile.write(tmp_path / "long.wav", np.arange(rate, dtype=np.int16), rate)
    segments = {"u1": "rec 0.25 0.5", "u2": "rec 0.5 1.05"}  # a tail of 50 ms is rounding
    tables = {
        "wav.scp": {"rec": tmp_path / "long.wav"},
        "segments": segments,
        "utt2spk": {"u1": "s", "u2": "s"},
    }
    data_dir.write_dir(tmp_path / "seg", tables)
    format_wav(tmp_path / "seg", tmp_path / "out")
    assert not (tmp_path / "out" / "segments").exists()
    scp = data_dir.read_table(tmp_path / "out" / "wav.scp")
    assert list(soundfile.read(scp["u1"], dtype="int16")[0]) == list(range(4000, 8000))
    assert soundfile.info(scp["u2"]).frames == 8000
    data_dir.write_table(tmp_path / "seg" / "segments", {**segments, "u2": "rec 0.5 3"})
    with pytest.raises(ValueError, match="lasts 1.000 s, but a segment ends at 3 s"):
        format_wav(tmp_path / "seg", tmp_path / "out")


def bad_files(folder):
    """name -> (path, what the message must say) for every kind of bad audio."""
    folder.mkdir()
    nan = tone()
    nan[100] = np.nan
    soundfile.write(folder / "nan.wav", nan, 16000, subtype="FLOAT")
    soundfile.write(folder / "inf.wav", np.full(2000, np.inf, "f4"), 16000, subtype="FLOAT")
    soundfile.write(folder / "none.wav", np.zeros(0), 16000)
    soundfile.write(folder / "short.wav", tone(0.05), 16000)
    soundfile.write(folder / "stereo.wav", np.stack([tone(), -tone()], axis=1), 16000)
    soundfile.write(folder / "loud.wav", tone() * 32768, 16000, subtype="FLOAT")
    soundfile.write(folder / "rate.wav", tone(), 44101)
    (folder / "zero.wav").write_bytes(b"")
    (folder / "fake.wav").write_text("this is a text, not a recording")
    return {
        "s-nan": ("nan.wav", "1 of 8000 samples are NaN or infinite, the first at 0.006 s"),
        "s-inf": ("inf.wav", "2000 of 2000 samples are NaN or infinite"),
        "s-none": ("none.wav", "is empty, it has no samples"),
        "s-short": ("short.wav", "lasts 0.050 s, shorter than 0.1 s"),
        "s-stereo": ("stereo.wav", "has 2 channels instead of one"),
        "s-loud": ("loud.wav", "samples are beyond [-1, 1]"),
        "s-rate": ("rate.wav", "has 44101 Hz, which cannot be made 16000 Hz"),
        "s-zero": ("zero.wav", "is empty (0 bytes)"),
        "s-fake": ("fake.wav", "not audio that can be read"),
        "s-gone": ("gone.wav", "no such file"),
    }


def test_all_bad_files_are_listed_and_fail_the_run_or_are_dropped(source, tmp_path):
    bad = bad_files(tmp_path / "bad")
    for name, (file, _) in bad.items():
        add(source, name, tmp_path / "bad" / file)
    add(source, "s-pipe", "sox x.wav -t wav - |")
    with pytest.raises(ValueError) as error:
        format_wav(source, tmp_path / "out")
    *lines, last = str(error.value).split("\n")
    assert "11 of 14 utterances are bad" in last and "--skip_bad true" in last
    assert not (tmp_path / "out" / "wav.scp").exists()
    for name, (file, message) in bad.items():
        assert [line for line in lines if name in line and file in line and message in line]
    assert [line for line in lines if "s-pipe" in line and "is a command" in line]

    first, last = format_wav(source, tmp_path / "out", skip_bad=True)
    assert "3 utterances" in first and "(3 of them written by an earlier run)" in first
    assert last.endswith("11 bad utterances dropped, see bad_utts")
    assert set(data_dir.read_table(tmp_path / "out" / "bad_utts")) == {*bad, "s-pipe"}
    assert data_dir.validate(tmp_path / "out") == []

    with pytest.raises(ValueError, match="all 14 utterances are bad, see .*/none/bad_utts"):
        format_wav(source, tmp_path / "none", min_seconds=9, skip_bad=True)
    assert len(data_dir.read_table(tmp_path / "none" / "bad_utts")) == 14


def test_a_second_run_keeps_what_is_good_and_redoes_the_rest(source, tmp_path):
    def kept(**options):
        first, *_ = format_wav(source, out, **options)
        return int(re.search(r"\((\d+) of them written by an earlier run", first)[1])

    out = tmp_path / "out"
    format_wav(source, out)
    scp = data_dir.read_table(out / "wav.scp")
    assert kept() == 3
    with open(scp["s-a"], "wb") as stream:
        stream.write(b"half of a fi")  # not by us, we rename: but a broken copy must not stay
    later = os.stat(scp["s-b"]).st_mtime + 10
    os.utime(data_dir.read_table(source / "wav.scp")["s-b"], (later, later))
    assert kept() == 1
    assert soundfile.info(scp["s-a"]).frames == 8000
    assert kept(fs=8000) == 0
    # another recording of the same name, older than what was made of the first one
    tables = data_dir.read_dir(source)
    path = tmp_path / "older.wav"
    soundfile.write(path, tone(0.3, 8000), 8000)
    os.utime(path, (1e9, 1e9))
    data_dir.write_dir(source, {**tables, "wav.scp": {**tables["wav.scp"], "s-a": str(path)}})
    assert kept(fs=8000) == 2
    assert soundfile.info(scp["s-a"]).frames == 2400
    assert not [path for path in out.rglob("*") if ".tmp" in path.name]


def test_faults_of_the_directory_come_first(source, tmp_path):
    (source / "text").write_text("s-a x\ns-b y\ns-c z\ns-x nobody\n")
    with pytest.raises(
        ValueError, match="text: s-x: no such utterance in wav.scp; run espnet-prune data fix"
    ):
        format_wav(source, tmp_path / "out")
    with pytest.raises(ValueError, match="--audio_format mp3: one of flac, wav, flac.ark, wav.ark"):
        format_wav(source, tmp_path / "out", audio_format="mp3")
    with pytest.raises(ValueError, match="same directory"):
        format_wav(source, source)
    with pytest.raises(ValueError, match="--fs 0"):
        format_wav(source, tmp_path / "out", fs=0)


def test_a_slash_in_a_name_is_refused(source, tmp_path):
    add(source, "s/../../x", tmp_path / "audio" / "a.wav")
    with pytest.raises(ValueError, match="'s/../../x' cannot be the name of a file"):
        format_wav(source, tmp_path / "out")


def test_number_of_workers_is_checked():
    with pytest.raises(ValueError, match="--nj 0: 1 or more"):
        list(parallel_map(abs, [1], 0, "x"))


def test_a_killed_worker_is_told_of(tmp_path):
    with pytest.raises(ValueError, match="a worker was killed.*smaller --nj"):
        list(parallel_map(os._exit, [1, 1], 2, "x"))


def test_workers_end_when_their_parent_is_killed(tmp_path):
    code = (
        "import sys, time\n"
        "from espnet_prune.data.formatting import parallel_map\n"
        "if __name__ == '__main__':\n"
        "    results = parallel_map(time.sleep, [0, 0, 600, 600], 2, 'x')\n"
        "    list(results)\n"
    )
    (tmp_path / "main.py").write_text(code)
    root = Path(__file__).resolve().parents[3]
    env = {**os.environ, "PYTHONPATH": str(root)}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "main.py")], env=env)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    if not children.exists():
        parent.kill()
        pytest.skip("the kernel does not list the children of a process")
    workers = wait_for(lambda: [p for p in pids(children) if b"spawn_main" in command(p)])
    parent.kill()
    parent.wait()
    assert wait_for(lambda: not any(b"spawn_main" in command(p) for p in workers))


def pids(children):
    return [int(pid) for pid in children.read_text().split()]


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_an_option_of_the_last_run_does_not_stay(source, tmp_path):
    format_wav(source, tmp_path / "out")
    with pytest.raises(ValueError, match="s-b.*lasts 0.400 s, shorter than 0.45 s"):
        format_wav(source, tmp_path / "out", min_seconds=0.45)
    data_dir.write_table(source / "segments", {"s-a": "s-a 0.1 0.3", "s-b": "s-b 0 0.2"})
    data_dir.fix(source)
    format_wav(source, tmp_path / "out")
    assert data_dir.read_counts(tmp_path / "out" / "utt2num_samples") == {"s-a": 3200, "s-b": 3200}
    (source / "segments").unlink()
    format_wav(source, tmp_path / "out")
    assert data_dir.read_counts(tmp_path / "out" / "utt2num_samples") == {"s-a": 8000, "s-b": 6400}


def test_other_code_formats_anew(source, tmp_path, monkeypatch):
    format_wav(source, tmp_path / "out")
    assert "(3 of them written" in format_wav(source, tmp_path / "out")[0]
    monkeypatch.setattr(formatting, "code_of", lambda *places: "another")
    assert "(0 of them written" in format_wav(source, tmp_path / "out")[0]


@pytest.mark.parametrize(
    ("utterance", "speaker", "message"),
    [
        ("x", "..", "utt2spk: '..' cannot be the name of a file"),
        ("x", "a/b", "utt2spk: 'a/b' cannot be the name of a file"),
        ("x" * 300, "s", "utt2spk: 'x+…' has 300 bytes, but 200 are the most"),
    ],
)
def test_names_that_no_file_can_have_are_bad(source, tmp_path, utterance, speaker, message):
    add(source, utterance, tmp_path / "audio" / "a.wav")
    tables = data_dir.read_dir(source)
    tables["utt2spk"][utterance] = speaker
    data_dir.write_dir(source, tables)
    with pytest.raises(ValueError, match=message):
        format_wav(source, tmp_path / "out")
    *_, last = format_wav(source, tmp_path / "out", skip_bad=True)
    assert last.endswith("1 bad utterances dropped, see bad_utts")


@pytest.mark.parametrize("audio_format", ["flac", "wav", "wav.ark"])
def test_a_full_disk_is_told_of_and_leaves_nothing_half(source, tmp_path, audio_format):
    """A limit on the size of files stands for the disk."""
    code = (
        "import resource, signal, sys\n"
        "from espnet_prune.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "main(sys.argv[1:])\n"
    )
    options = ["data", "format", "--skip_bad", "true", "--audio_format", audio_format]
    command = [sys.executable, "-c", code, *options, str(source), str(tmp_path / "out")]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "error: [Errno 27] File too large" in last
    name = "000001" if audio_format.endswith("ark") else "s-a"
    assert f"{name}.{audio_format}" in last
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {data_dir.MARK, ".made_of.json"}


def test_others_files_in_the_target_stay(source, tmp_path):
    (tmp_path / "out" / "data").mkdir(parents=True)
    (tmp_path / "out" / "data" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="out: holds data, which was not written here"):
        format_wav(source, tmp_path / "out")
