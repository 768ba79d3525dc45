"""Runs `espnet-prune` as a test wants it."""

import pytest

from espnet_prune.cli import main


def error_of(capsys, *argv) -> str:
    """The last line on stderr of a command that has to fail with status 1."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in argv])
    assert ended.value.code == 1
    return capsys.readouterr().err.splitlines()[-1]
