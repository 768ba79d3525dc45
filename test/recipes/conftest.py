"""What tests of recipes share."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WARM = ROOT / "espnet_prune" / "launch" / "warm_python.py"


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory):
    """Options of a recipe; with them, every command of its Python starts at once."""
    folder = tmp_path_factory.mktemp("warm")
    path, log = folder / "socket", folder / "log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, str(WARM), "--serve", str(path)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    while not path.exists():
        assert server.poll() is None, log.read_text()
        time.sleep(0.2)
    os.environ["WARM_PYTHON"] = str(path)
    yield ["--python", str(WARM)]
    del os.environ["WARM_PYTHON"]
    server.terminate()
    server.wait()
