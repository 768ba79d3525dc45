import shutil

import pytest


@pytest.fixture
def sctk():
    """Name of a tool of NIST's scoring toolkit -> the start of its command line."""

    def command(tool):
        if shutil.which("sctk"):  # Debian's front end
            return ["sctk", tool]
        found = shutil.which(tool) or shutil.which(f"{tool}.pl")
        if found is None:
            pytest.skip(f"{tool} (of sctk) is not installed")
        return [found]

    return command
