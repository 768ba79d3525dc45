import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_prune.hub import debian
from espnet_prune.hub.debian import PackageNotFound, fetch_packages

# Stand-ins: apt-get knows the packages good-a and good-b; an archive is the package's name; dpkg
# unpacks one file and one link from it, and fails on an archive that holds "broken".
APT = """#!/bin/sh
echo "$@" >> "$CALLS"
while [ $# -gt 0 ]; do
    case $1 in
        update) echo "W: no mirror answers" >&2; exit 0 ;;
        download)
            case $2 in
                slow) exec sleep 60 ;;
                good-*|broken) echo "$2" > "$2_1.0_all.deb"; exit 0 ;;
                *) echo "E: Unable to locate package $2" >&2; exit 100 ;;
            esac ;;
    esac
    shift
done
"""
DPKG = """#!/bin/sh
name=$(cat "$2")
[ "$name" = broken ] && { echo "dpkg-deb: error: not an archive" >&2; exit 2; }
mkdir -p "$3/usr/share/$name" "$3/usr/lib"
echo "$name" > "$3/usr/share/$name/data"
ln -s ../share "$3/usr/lib/$name"
"""


@pytest.fixture
def fake_apt(tmp_path, monkeypatch):
    """Put the stand-ins first on PATH; returns the file that apt-get logs its calls to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("apt-get", APT), ("dpkg", DPKG)):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def test_packages_share_one_tree_and_are_fetched_once(fake_apt, tmp_path):
    tree = fetch_packages(["good-a", "good-b"], tmp_path / "work")
    assert (tree / "usr/share/good-a/data").read_text() == "good-a\n"
    assert (tree / "usr/lib/good-b").is_symlink()
    calls = fake_apt.read_text().splitlines()
    assert len(calls) == 3  # update and two downloads
    assert all(f"Dir::State::Lists={tmp_path}" in call for call in calls)
    assert fetch_packages(["good-b", "good-a"], tmp_path / "work") == tree
    assert fake_apt.read_text().splitlines() == calls


def test_processes_that_want_the_same_wait_for_each_other(fake_apt, tmp_path):
    code = "import sys; from espnet_prune.hub.debian import fetch_packages as f\n"
    code += "f(['good-a', 'good-b'], sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "work")]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert len(fake_apt.read_text().splitlines()) == 3


def test_an_interrupted_call_is_taken_up(fake_apt, tmp_path):
    with pytest.raises(PackageNotFound):
        fetch_packages(["good-a", "absent"], tmp_path / "work")
    (tmp_path / "work" / "good-b.tmp" / "files").mkdir(parents=True)  # killed while unpacking
    fetch_packages(["good-a", "good-b"], tmp_path / "work")
    downloads = [call for call in fake_apt.read_text().splitlines() if "download good" in call]
    assert len(downloads) == 2
    assert not list((tmp_path / "work").glob("good-*.tmp"))


def test_unknown_package_is_named_with_what_apt_said(fake_apt, tmp_path):
    with pytest.raises(PackageNotFound, match="absent cannot be had: E: Unable.*no mirror answers"):
        fetch_packages(["absent"], tmp_path / "work")
    assert not (tmp_path / "work" / "done" / "absent").exists()


def test_broken_archive_is_named(fake_apt, tmp_path):
    with pytest.raises(PackageNotFound, match="broken cannot be unpacked: dpkg-deb: error"):
        fetch_packages(["broken"], tmp_path / "work")


def test_missing_tools_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageNotFound, match="apt-get is not on PATH"):
        fetch_packages(["good-a"], tmp_path / "work")


def test_an_apt_that_does_not_end_is_stopped(fake_apt, tmp_path, monkeypatch):
    monkeypatch.setattr(debian, "MOST_SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(PackageNotFound, match="slow cannot be had: E: apt-get was stopped after"):
        fetch_packages(["slow"], tmp_path / "work")
    assert time.monotonic() - start < 10


def test_a_silent_mirror_is_given_up(fake_apt, tmp_path):
    fetch_packages(["good-a"], tmp_path / "work")
    for call in fake_apt.read_text().splitlines():
        assert "-oAcquire::http::Timeout=30 -oAcquire::https::Timeout=30 " in call


@pytest.mark.parametrize("name", ["--allow-unauthenticated", "a b", "", "Upper"])
def test_a_name_that_is_no_package_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="not the name of a Debian package"):
        fetch_packages([name], tmp_path)


def test_module_needs_the_standard_library_only():
    """The installer imports it with bare python3, before anything is installed."""
    root = Path(__file__).resolve().parents[3]
    code = "import espnet_prune.hub.debian, espnet_prune.hub.clients, espnet_prune.launch.jobs"
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = [{str(root)!r}]\n{code}"],
        check=True,
    )
