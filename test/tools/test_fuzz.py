"""A small form of the fuzz command; `python tools/fuzz.py` is the whole one."""

import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).resolve().parents[2] / "tools/fuzz.py"


def test_mutated_files_are_read_or_refused_by_name():
    done = subprocess.run(
        [sys.executable, FUZZ, "--count", "260", "--seed", "1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout
    row = done.stdout.splitlines()[-2].split()
    assert row[0] == "all" and sum(map(int, row[1:])) == 260
    assert int(row[1]) > 0 and int(row[2]) > 0, "nothing was read, or nothing refused"
