"""`espnet-prune plugins`: ESPnet's tables have the plugins in every program of an environment."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

#: file of site-packages that Python reads at every start
NAME = "espnet_prune_auto.pth"
#: one line, as such files have; it does nothing once the package has been removed
LINE = """\
import importlib.util; importlib.util.find_spec("espnet_prune") and __import__("espnet_prune.auto")
"""


def on(parser: ArgumentParser):
    """Have ESPnet know the plugins without an import, in every program of this environment.

    Inference, ESPnet's model zoo and stock recipes then take models with `frontend: pruned_ssl`
    and the like as they are. It is one file in site-packages, which every start of Python reads.
    """

    def run(args):
        from espnet_prune.files.writing import write_text

        write_text(_file(), LINE)
        print(f"on: {_file()}")

    return run


def off(parser: ArgumentParser):
    """Undo `espnet-prune plugins on`."""

    def run(args):
        _file().unlink(missing_ok=True)
        print(f"off: no {_file()}")

    return run


def _file() -> Path:
    import sysconfig

    return Path(sysconfig.get_path("purelib")) / NAME


VERBS = {"on": on, "off": off}
