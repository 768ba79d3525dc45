import errno
import os
import resource
import signal
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from espnet_prune.files import writing
from espnet_prune.files.growing import grow
from espnet_prune.files.writing import write_file, write_json, write_text


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "folder" / "a.json"
    write_json(path, {"b": [1]})
    assert path.read_text() == '{\n  "b": [\n    1\n  ]\n}\n'

    def fail(temporary):
        assert temporary.parent == path.parent and temporary.suffix == ".json"
        temporary.write_text("half of")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        write_file(path, fail)
    assert path.read_text().startswith("{") and os.listdir(path.parent) == ["a.json"]
    write_text(path, "ö")
    assert path.read_bytes() == "ö".encode()


def test_errors_name_the_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file/a") as error:
        write_text(tmp_path / "file" / "a", "")
    assert "tmp" not in os.path.basename(error.value.filename)
    (tmp_path / "b").mkdir()
    with pytest.raises(OSError, match="/b'"):
        write_text(tmp_path / "b", "")


def test_a_library_that_does_not_tell_of_a_full_disk(tmp_path):
    """Here the limit on the size of a file; it stands for a full disk, a quota, a folder that
    cannot be written."""

    def write(temporary):
        try:
            with temporary.open("wb") as file:
                file.write(bytes(1 << 16))
        except OSError:
            raise RuntimeError("System error.") from None  # as libsndfile and safetensors do

    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            write_file(tmp_path / "a.flac", write)
        except OSError as error:
            right = error.filename == str(tmp_path / "a.flac") and error.strerror
            os._exit(0 if right == "File too large" else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.listdir(tmp_path) == []


@pytest.fixture
def disk(tmp_path):
    """A file system of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(disk):
    write_text(disk / "a", "old")
    grow(disk / "rows", [[1]])
    for name, write in (("a", write_text), ("rows", lambda path, text: grow(path, [[text]]))):
        with pytest.raises(OSError, match=f"No space left on device: '{disk}/{name}'") as error:
            write(disk / name, "x" * 200_000)
        assert error.value.errno == errno.ENOSPC
    assert (disk / "a").read_text() == "old" and sorted(os.listdir(disk)) == ["a", "rows"]


def save_with_torch(path):
    with path.open("wb") as file:
        torch.save(torch.rand(100_000), file)


NOISE = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
LIBRARIES = {
    "a.flac": lambda path: soundfile.write(path, 0.1 * NOISE, 16000),
    "a.wav": lambda path: soundfile.write(path, 0.1 * NOISE, 16000),
    "a.npy": lambda path: np.save(path, NOISE),
    "a.pth": save_with_torch,
    "a.safetensors": lambda path: save_file({"a": torch.from_numpy(NOISE)}, path),
    "a.png": lambda path: matplotlib.image.imsave(path, NOISE.reshape(200, -1)),
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_full_disk_is_told_whatever_library_writes(disk, name):
    with pytest.raises(OSError, match=f"No space left on device: '{disk}/{name}'"):
        write_file(disk / name, LIBRARIES[name])
    assert os.listdir(disk) == []


def test_leftovers_of_killed_processes_go(tmp_path):
    def name_of(process, host=writing._HOST):
        return f".a.{host}-{process}.tmp.json"

    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / name_of(ended.pid)).touch()  # of one that was killed
    stay = [name_of(os.getpid()), name_of(ended.pid, "another_host"), ".a.tmp.json", "a.1.tmp"]
    for name in stay:
        (tmp_path / name).touch()
    write_text(tmp_path / "b.txt", "")
    assert sorted(os.listdir(tmp_path)) == sorted([*stay, "b.txt"])


def test_a_kill_leaves_nothing_for_good(tmp_path):
    code = "import os, sys; from espnet_prune.files.writing import write_file\n"
    code += "write_file(sys.argv[1], lambda t: (t.write_text('half'), os.kill(os.getpid(), 9)))"
    path = tmp_path / "a.json"
    subprocess.run([sys.executable, "-c", code, str(path)])
    (left,) = os.listdir(tmp_path)
    assert left != "a.json"
    write_json(path, {})
    assert os.listdir(tmp_path) == ["a.json"]


def test_content_and_name_are_on_disk_before_it_returns(tmp_path, monkeypatch):
    steps = []
    sync, replace = os.fsync, os.replace

    def note_sync(descriptor):
        steps.append(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("rename"), replace(a, b)))
    write_text(tmp_path / "a", "x")
    file, rename, folder = steps
    assert ".tmp" in file and rename == "rename" and folder == str(tmp_path)


def test_a_long_name(tmp_path):
    name = "u" * 250 + ".txt"
    write_text(tmp_path / name, "x")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="/a'"):
        write_text(tmp_path / "a", "")


def test_the_reason_and_the_file_are_told_where_a_library_gives_no_number(tmp_path):
    def fail(temporary):
        temporary.write_text("half")
        raise OSError("8000 requested and 100 written")  # numpy, where the disk is full

    with pytest.raises(OSError, match="a.npy: 8000 requested and 100 written"):
        write_file(tmp_path / "a.npy", fail)
    assert os.listdir(tmp_path) == []
