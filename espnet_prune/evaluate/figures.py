"""Saving figures. Apart from `plots`, which imports the models."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import matplotlib

# Files need no display; whoever draws with matplotlib already, as in a notebook, keeps the backend.
if "matplotlib.pyplot" not in sys.modules and "MPLBACKEND" not in os.environ:
    matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def save_figure(figure, path: Path, dpi: int = 100, bbox_inches: str | None = "tight") -> None:
    """Write a figure as PNG under a temporary name, rename it, and close it."""
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, format="png", dpi=dpi, bbox_inches=bbox_inches)
    plt.close(figure)
    temporary.replace(path)
