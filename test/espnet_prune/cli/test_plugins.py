"""`espnet-prune plugins`: one file of site-packages that a start of Python reads."""

import subprocess
import sys

import pytest

from espnet_prune.cli import main
from espnet_prune.cli.plugins import NAME
from test.espnet_prune.asr_training import ROOT


@pytest.fixture
def site_packages(tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    return tmp_path


def start(site_packages, *paths):
    """What a start of Python with that folder as site-packages makes of sys.meta_path."""
    code = f"""
import site, sys
site.addsitedir({str(site_packages)!r})
print(any(type(finder).__module__ == "espnet_prune.plugin.registry" for finder in sys.meta_path))
print([name for name in ("torch", "numpy", "espnet2") if name in sys.modules])
"""
    # -S: this environment may have the package installed, and the switch on
    command = [sys.executable, "-S", "-c", code]
    env = {"PYTHONPATH": ":".join(map(str, paths))}
    options = {"env": env, "cwd": site_packages, "capture_output": True, "text": True}
    done = subprocess.run(command, check=True, **options)
    assert not done.stderr
    return done.stdout.split()


def test_on_and_off(site_packages, capsys):
    import yaml

    needed = (ROOT, yaml.__path__[0].removesuffix("yaml"))
    assert start(site_packages, *needed) == ["False", "[]"]
    main(["plugins", "on"])
    assert capsys.readouterr().out == f"on: {site_packages / NAME}\n"
    assert start(site_packages, *needed) == ["True", "[]"]
    assert start(site_packages) == ["False", "[]"]  # the package has been removed
    main(["plugins", "off"])
    main(["plugins", "off"])
    assert not list(site_packages.iterdir())
