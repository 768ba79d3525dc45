"""tools/install.py without a network: fake executables stand for python, pip and uv."""

import fcntl
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("install", ROOT / "tools" / "install.py")
installer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(installer)


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + body, encoding="utf-8")
    path.chmod(0o755)
    return path


# --- Python's version -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 13)])
def test_python_that_fits(version):
    installer.check_python(version)


@pytest.mark.parametrize("version", [(3, 9), (3, 14), (2, 7)])
def test_python_that_does_not_fit(version):
    with pytest.raises(installer.InstallError, match=r"needs Python 3\.10 to 3\.13; run this"):
        installer.check_python(version)


# --- an active environment ------------------------------------------------------------------------


def test_requirements_of_this_checkout_are_there():
    required = installer.requirements(ROOT / "setup.py")
    assert "espnet>=202511" in required
    assert installer.lacking(required) == []


def test_what_an_active_environment_lacks():
    required = ["pytest>=99", "no-such-package>=2", "pytest", "other; python_version < '3'"]
    faults = installer.lacking(required)
    assert faults == [f"pytest>=99 (has {pytest.__version__})", "no-such-package>=2"]


@pytest.mark.parametrize(
    ("espnet", "required", "rc", "message"),
    [
        (False, [], 3, ""),
        (True, ["pytest"], 0, ""),
        (True, ["no-such-package"], 1, "has ESPnet, but not no-such-package; run `"),
    ],
)
def test_active(espnet, required, rc, message, monkeypatch, capsys):
    real = installer.importlib.util.find_spec
    found = {"espnet2": object() if espnet else None}
    find = lambda name: found[name] if name in found else real(name)  # noqa: E731
    monkeypatch.setattr(installer.importlib.util, "find_spec", find)
    monkeypatch.setattr(installer, "requirements", lambda setup: required)
    monkeypatch.setattr(sys, "argv", ["install.py", "--active"])
    with pytest.raises(SystemExit) as ended:
        installer.main()
    assert ended.value.code == rc
    assert message in capsys.readouterr().err


def test_recipes_use_an_active_environment_with_espnet(tmp_path):
    """path.sh, with an interpreter in front that answers as one with, without or half of it."""
    recipe = tmp_path / "egs2" / "corpus" / "task"
    recipe.mkdir(parents=True)
    (tmp_path / "espnet_prune").mkdir()
    (tmp_path / "espnet_prune" / "__init__.py").touch()
    path_sh = ROOT / "egs2" / "TEMPLATE" / "common" / "path.sh"
    answers = 'case "$*" in *--active) exit ${ACTIVE};; *) echo "made: $*" ;; esac\n'
    script(tmp_path / "bin" / "python3", answers)
    code = f'. {path_sh}; echo "rc $?" "${{PATH%%:*}}"'
    outputs = {}
    for active in (0, 1, 3):
        env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "ACTIVE": str(active)}
        done = subprocess.run(
            ["bash", "-c", code], cwd=recipe, env=env, capture_output=True, text=True, check=True
        )
        outputs[active] = done.stdout.split(), "made:" in done.stderr
    assert outputs[0] == (["rc", "0", f"{tmp_path}/bin"], False)
    assert outputs[1] == (["rc", "1", f"{tmp_path}/bin"], False)
    assert outputs[3] == (["rc", "0", f"{tmp_path}/tools/venv/bin"], True)


# --- the stamp ------------------------------------------------------------------------------------

REQUIREMENT_FILES = ["setup.py", "tools/constraints.txt", "tools/overrides.txt"]


@pytest.fixture
def checkout(tmp_path):
    """A checkout as far as the installer reads one."""
    root = tmp_path / "checkout"
    for name in REQUIREMENT_FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"content of {name}\n", encoding="utf-8")
    return root


@pytest.mark.parametrize("name", REQUIREMENT_FILES)
def test_state_changes_with_each_requirement_file(checkout, name):
    before = installer.wanted_state(checkout)
    assert installer.wanted_state(checkout) == before
    with open(checkout / name, "a", encoding="utf-8") as handle:
        handle.write("more\n")
    assert installer.wanted_state(checkout) != before


def test_state_does_not_confuse_files(checkout):
    before = installer.wanted_state(checkout)
    one, two = checkout / "tools/constraints.txt", checkout / "tools/overrides.txt"
    whole = one.read_bytes() + two.read_bytes()
    one.write_bytes(whole[:3])
    two.write_bytes(whole[3:])
    assert installer.wanted_state(checkout) != before


def test_complete_needs_stamp_and_python(checkout):
    venv, state = checkout / "tools/venv", installer.wanted_state(checkout)
    python = script(venv / "bin/python", "")
    assert not installer.is_complete(venv, state)
    installer.write_stamp(venv, state)
    assert installer.is_complete(venv, state)
    assert not installer.is_complete(venv, {**state, "root": "/elsewhere"})
    python.unlink()
    assert not installer.is_complete(venv, state)


def test_broken_stamp_counts_as_none(checkout):
    venv = checkout / "tools/venv"
    venv.mkdir()
    (venv / ".complete.json").write_text('{"requirements": "ab', encoding="utf-8")
    assert installer.read_stamp(venv) == {}


# --- errors ---------------------------------------------------------------------------------------


def test_run_shows_progress_but_no_package_list(capfd):
    installer.run(["sh", "-c", "echo Resolved 2 packages; echo ' + torch==2.12.1'"], {})
    assert capfd.readouterr().out == "  Resolved 2 packages\n"


def test_run_failure_is_one_line():
    command = ["sh", "-c", "echo first; echo connection refused >&2; exit 3"]
    with pytest.raises(installer.InstallError) as error:
        installer.run(command, {"PATH": "/bin:/usr/bin"})
    assert "check the network" in str(error.value)
    assert "\n" not in str(error.value)


def test_disk_space(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**11, 0, 9 * 10**9))
    installer.check_disk(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**11, 0, 7 * 10**9))
    with pytest.raises(installer.InstallError, match=f"{tmp_path}: 7.0 GB of disk are free"):
        installer.check_disk(tmp_path)


def test_lock_excludes_and_outlives_a_killed_installer(tmp_path):
    file = tmp_path / "lock"
    with installer.lock(file) as held:
        child = subprocess.Popen(["sleep", "60"], pass_fds=(held,))
    with open(file) as other:
        with pytest.raises(BlockingIOError):  # the child goes on and still holds it
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.kill()
        child.wait()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


# --- finding and fetching uv ----------------------------------------------------------------------


def test_uv_on_path_comes_first(tmp_path):
    ours = script(tmp_path / "tools/.uv/bin/uv", "echo uv 0.9.0")
    theirs = script(tmp_path / "bin/uv", "echo 'uv 0.8.1 (abc 2025-01-01)'")
    assert installer.find_uv(tmp_path / "tools", str(theirs.parent)) == theirs
    assert installer.find_uv(tmp_path / "tools", str(tmp_path)) == ours


@pytest.mark.parametrize("body", ["echo uv 0.4.30", "exit 1", "echo something else"])
def test_uv_that_is_too_old_or_broken_is_passed_over(tmp_path, body):
    theirs = script(tmp_path / "bin/uv", body)
    assert installer.find_uv(tmp_path / "tools", str(theirs.parent)) is None
    ours = script(tmp_path / "tools/.uv/bin/uv", "echo uv 1.0.0")
    assert installer.find_uv(tmp_path / "tools", str(theirs.parent)) == ours


# `python -m venv DIR` of a machine with ensurepip: its pip makes DIR/bin/uv
VENV = r"""
if [ "$2" = venv ]; then
    mkdir -p "$3/bin"
    printf '#!/bin/sh\ncd "$(dirname "$0")"\n' > "$3/bin/python"
    printf 'printf "#!/bin/sh\\necho uv 9.1.0\\n" > uv; chmod +x uv\n' >> "$3/bin/python"
    chmod +x "$3/bin/python"
    exit 0
fi
"""
NO_VENV = 'if [ "$2" = venv ]; then mkdir -p "$3/bin"; exit 1; fi\n'
NO_PIP = 'if [ "$1 $2" = "-m pip" ]; then exit 1; fi\n'
# pip install … --target DIR uv
PIP = r"""
while [ $# -gt 1 ] && [ "$1" != --target ]; do shift; done
[ "$1" = --target ] || exit 0
mkdir -p "$2/bin"
printf '#!/bin/sh\necho uv 9.2.0\n' > "$2/bin/uv"
chmod +x "$2/bin/uv"
"""


def test_fetch_uv_with_venv(tmp_path):
    python = script(tmp_path / "python", VENV + "exit 1\n")
    uv = installer.fetch_uv(tmp_path, str(python), {"PATH": "/bin:/usr/bin"})
    assert uv == tmp_path / ".uv/bin/uv"
    assert installer.uv_version(uv) == (9, 1)


def test_fetch_uv_with_pip_where_there_is_no_venv(tmp_path):
    python = script(tmp_path / "python", NO_VENV + PIP)
    uv = installer.fetch_uv(tmp_path, str(python), {"PATH": "/bin:/usr/bin"})
    assert installer.uv_version(uv) == (9, 2)
    assert not (tmp_path / ".uv.part").exists()


def test_fetch_uv_with_debians_pip_where_there_is_neither(tmp_path, monkeypatch):
    wheel = tmp_path / "pip-1-py3-none-any.whl"
    monkeypatch.setattr(installer, "debian_pip", lambda work: wheel)
    log = tmp_path / "log"
    python = script(tmp_path / "python", NO_VENV + NO_PIP + f'echo "$1" > {log}\n' + PIP)
    uv = installer.fetch_uv(tmp_path, str(python), {"PATH": "/bin:/usr/bin"})
    assert installer.uv_version(uv) == (9, 2)
    assert log.read_text().strip() == str(wheel / "pip")


def test_no_way_to_uv_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    python = script(tmp_path / "python", "exit 1\n")
    with pytest.raises(
        installer.InstallError, match="apt-get.*install one of uv, pip, python3-venv"
    ):
        installer.fetch_uv(tmp_path, str(python), {"PATH": "/bin:/usr/bin"})


# --- the whole, with a fake uv --------------------------------------------------------------------

FAKE_UV = r"""
if [ "$1" = --version ]; then echo uv 9.0.0; exit; fi
echo "$@" >> {log}
if [ "$1" = venv ]; then
    for last in "$@"; do :; done
    mkdir -p "$last/bin"
    printf '#!/bin/sh\ncase "$2" in *print*) echo {python};; esac\n' > "$last/bin/python"
    chmod +x "$last/bin/python"
fi
test ! -e {fails}
"""


class Machine:
    """A checkout, a fake uv on PATH and the log of its calls."""

    def __init__(self, checkout: Path, folder: Path):
        self.checkout, self.folder, self.log = checkout, folder, folder / "log"
        self.venv = checkout / "tools/venv"
        self.fails = folder / "fails"
        self.set_python("3 11")

    def set_python(self, version: str) -> None:
        body = FAKE_UV.replace("{log}", str(self.log)).replace("{python}", version)
        script(self.folder / "bin/uv", body.replace("{fails}", str(self.fails)))

    def calls(self) -> list[str]:
        """The uv calls since the last time this was asked: "venv" or "pip"."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        self.options = " ".join(lines)
        return [line.split()[0] for line in lines]

    def install(self) -> None:
        with installer.lock(self.checkout / "tools/.install.lock") as held:
            installer.install(self.checkout, held)


@pytest.fixture
def machine(checkout, tmp_path, monkeypatch):
    machine = Machine(checkout, tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    monkeypatch.setattr(installer, "check_disk", lambda folder: None)
    return machine


def test_install_then_nothing_to_do(machine):
    machine.install()
    assert machine.calls() == ["venv", "pip"]
    assert "--editable .[test]" in machine.options
    assert installer.is_complete(machine.venv, installer.wanted_state(machine.checkout))
    assert not (machine.checkout / "tools/.venv.installing").exists()
    machine.install()
    assert machine.calls() == []


def test_changed_requirements_update_in_place(machine):
    machine.install()
    machine.calls()
    (machine.checkout / "tools/constraints.txt").write_text("new\n")
    machine.install()
    assert machine.calls() == ["pip"]
    assert installer.is_complete(machine.venv, installer.wanted_state(machine.checkout))


def test_half_made_environment_is_made_again(machine):
    machine.fails.touch()
    with pytest.raises(installer.InstallError):
        machine.install()
    (machine.venv / "half").touch()
    machine.calls()
    machine.fails.unlink()
    machine.install()
    assert machine.calls() == ["venv", "pip"]
    assert not (machine.venv / "half").exists()


def test_failed_update_leaves_no_stamp(machine):
    machine.install()
    (machine.checkout / "setup.py").write_text("new\n")
    machine.fails.touch()
    with pytest.raises(installer.InstallError):
        machine.install()
    assert installer.read_stamp(machine.venv) == {}


def test_environment_whose_python_is_gone_is_made_again(machine):
    machine.install()
    (machine.venv / "bin/python").unlink()
    machine.calls()
    machine.install()
    assert machine.calls() == ["venv", "pip"]


def test_moved_checkout_is_made_again(machine, tmp_path):
    machine.install()
    machine.calls()
    machine.checkout = machine.checkout.rename(tmp_path / "moved")
    machine.venv = machine.checkout / "tools/venv"
    machine.install()
    assert machine.calls() == ["venv", "pip"]
    assert json.loads((machine.venv / ".complete.json").read_text())["root"].endswith("moved")


def test_constraints_are_for_their_python_only(machine):
    machine.set_python("3 13")
    machine.install()
    machine.calls()
    (machine.checkout / "setup.py").write_text("new\n")
    machine.install()  # of an environment that has Python 3.13
    assert machine.calls() == ["pip"]
    assert "--constraints" not in machine.options
    assert "--overrides" in machine.options

    machine.set_python("3 11")
    shutil.rmtree(machine.venv)
    machine.install()
    (machine.checkout / "setup.py").write_text("newer\n")
    machine.calls()
    machine.install()
    machine.calls()
    assert "--constraints" in machine.options


# --- the files of requirements --------------------------------------------------------------------


def test_constraints_are_exact_and_name_no_host():
    lines = (ROOT / "tools/constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin) for pin in pins)
    assert {"espnet==202511"} < set(pins)


def test_every_requirement_is_constrained():
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    names = re.findall(r'^ {8,12}"([a-z0-9_-]+)(?:[>;].*)?",$', setup, re.MULTILINE)
    constrained = (ROOT / "tools/constraints.txt").read_text(encoding="utf-8")
    assert len(names) > 15
    missing = [n for n in names if f"\n{n.replace('_', '-')}==" not in constrained]
    assert missing == []


def test_unknown_argument_prints_the_usage():
    command = [sys.executable, str(ROOT / "tools/install.py"), "--prefix"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "usage: python3 tools/install.py" in result.stdout
