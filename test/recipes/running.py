"""Run a recipe as a user does."""

import os
import shutil
import subprocess
from pathlib import Path

EGS2 = Path(__file__).resolve().parents[2] / "egs2"


def environment_of(**variables: str) -> dict[str, str]:
    """The environment as it is now, with two threads and these variables."""
    return {**os.environ, "OMP_NUM_THREADS": "2", **variables}


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
        env=environment_of(**environment),
    )
    assert done.returncode == expect, done.stdout[-5000:]
    return done.stdout


def copy_of(recipe: str, folder: Path) -> Path:
    """The recipe in a tree of its own, because its `data` may hold the real corpus."""
    (folder / "egs2").mkdir(parents=True)
    for name in ("espnet_prune", "tools"):
        (folder / name).symlink_to(EGS2.parent / name)
    (folder / "egs2" / "TEMPLATE").symlink_to(EGS2 / "TEMPLATE")
    written = shutil.ignore_patterns("data", "dump*", "exp*", "downloads")
    return Path(shutil.copytree(EGS2 / recipe, folder / "egs2" / recipe, True, written))
