"""Run a recipe as a user does."""

import os
import subprocess
from pathlib import Path

EGS2 = Path(__file__).resolve().parents[2] / "egs2"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "2"}


def run_recipe(recipe: Path, *options: str, expect: int = 0, **environment: str) -> str:
    """`run.sh` in the recipe's own directory; returns what it printed.

    Args:
        expect: exit status.
        environment: variables beside those that are set.
    """
    done = subprocess.run(
        ["./run.sh", *options],
        cwd=recipe,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**ENVIRONMENT, **environment},
    )
    assert done.returncode == expect, done.stdout[-5000:]
    return done.stdout
