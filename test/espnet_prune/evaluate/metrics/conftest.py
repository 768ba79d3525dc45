import os
import shutil

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
        if tool == "md-eval":
            return ["perl", shutil.which(tool, path=path) or shutil.which(f"{tool}.pl", path=path)]
        return [shutil.which(tool, path=path)]

    return command
