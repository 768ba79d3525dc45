import os
import shutil
import subprocess

import pytest

from espnet_prune.hub.debian import PackageNotFound, fetch_packages

FOLDER = "usr/lib/sctk/bin"  # of Debian's package


@pytest.fixture(scope="session")
def sctk(tmp_path_factory):
    """Name of a tool of NIST's scoring toolkit -> the start of its command line.

    The toolkit is what is installed, else Debian's, unpacked in a temporary folder.
    """
    path = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/{FOLDER}"
    if shutil.which("sclite", path=path) is None:
        try:
            tree = fetch_packages(["sctk"], tmp_path_factory.mktemp("sctk"))
        except PackageNotFound as error:
            pytest.skip(f"sctk is not installed, and cannot be fetched: {error}")
        path = str(tree / FOLDER)

    def command(tool):
        if tool != "md-eval":
            return [shutil.which(tool, path=path)]
        script = shutil.which(tool, path=path) or shutil.which(f"{tool}.pl", path=path)
        try:
            check = subprocess.run(["perl", "-c", script], capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("md-eval needs perl, which is not on PATH")
        if check.returncode:  # a bare Debian's perl lacks most of its modules
            pytest.skip(f"md-eval does not run with this perl: {check.stderr.splitlines()[0]:.200}")
        return ["perl", script]

    return command
