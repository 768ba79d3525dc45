import subprocess
from pathlib import Path

import pytest

from espnet_prune import __version__
from espnet_prune.evaluate import environment


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "name")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "name@host.invalid")
    root = tmp_path / "repository"
    root.mkdir()
    (root / "file").write_text("one\n")
    try:
        for command in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "first"]):
            subprocess.run(["git", *command], cwd=root, check=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    return root


def test_report_has_a_value_for_everything():
    report = environment.environment_report()
    assert report.startswith("## Environment\n- python: `3.")
    assert report.endswith("`\n")
    lines = dict(line[2:].split(": ", 1) for line in report.splitlines()[1:])
    assert {"CPU", "CPU cores", "memory", "GPU", "torch", "espnet", "git commit"} < lines.keys()
    assert lines["espnet_prune"] == f"`{__version__}`"
    assert all(value.strip("`") for value in lines.values())


def test_commit_and_dirty_flag(repository):
    commit = environment.git_commit(repository)
    assert len(commit) == 40
    (repository / "untracked").touch()
    assert environment.git_commit(repository) == commit
    (repository / "file").write_text("two\n")
    assert environment.git_commit(repository) == f"{commit}-dirty"


def test_a_checkout_around_the_package_is_not_its_own(repository):
    inner = repository / "site-packages"
    inner.mkdir()
    assert environment.git_commit(inner) == "unknown"


def test_no_checkout_or_no_git(tmp_path, monkeypatch):
    assert environment.git_commit(tmp_path) == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.git_commit(Path(environment.ROOT)) == "unknown"


def test_a_package_that_is_absent():
    assert environment._package_version("no-such-package-anywhere") == "not installed"
