import shutil

import pytest

from espnet_prune.recipe.debian import PackageNotFound, fetch_packages


@pytest.fixture
def sctk(tmp_path_factory):
    """Name of a tool of NIST's scoring toolkit -> the start of its command line.

    The toolkit is what is installed, else Debian's, unpacked in a temporary folder.
    """

    def command(tool):
        for name in (tool, f"{tool}.pl"):
            if shutil.which(name):
                return [shutil.which(name)]
        try:
            tree = fetch_packages(["sctk"], tmp_path_factory.getbasetemp().parent / "sctk")
        except PackageNotFound as error:
            pytest.skip(f"{tool} of sctk is not installed, and cannot be fetched: {error}")
        folder = tree / "usr" / "lib" / "sctk" / "bin"
        if (folder / tool).exists():
            return [str(folder / tool)]
        return ["perl", str(folder / f"{tool}.pl")]

    return command
