"""Figures of panels, and how they are saved."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import matplotlib

from espnet_prune.files.writing import write_file

# Files need no display; whoever draws with matplotlib already, as in a notebook, keeps the backend.
if "matplotlib.pyplot" not in sys.modules and "MPLBACKEND" not in os.environ:
    matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def panels(columns: int, width: float, height: float, rows: int = 1):
    """A figure and its axes in their order, each of so many inches, with a grid."""
    size = width * columns, height * rows
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="tight")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    return figure, list(axes.flat)


def save_figure(figure, path: Path) -> None:
    """Write a figure as PNG, and close it."""
    options = {"format": "png", "bbox_inches": "tight"}
    write_file(path, lambda temporary: figure.savefig(temporary, **options), sync=False)
    plt.close(figure)
