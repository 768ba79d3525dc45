"""The SUPERB score against parameters and against MACs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from espnet_prune.evaluate.figures import panels, save_figure
from espnet_prune.evaluate.superb.score import PUBLISHED


def _spread(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """The heights, from the lowest up, raised where they are nearer than `gap` to the one below."""
    spread, below = {}, -float("inf")
    for name in sorted(heights, key=heights.__getitem__):
        below = spread[name] = max(heights[name], below + gap)
    return spread


def plot_superb(
    name: str,
    score: float,
    parameters: float | None,
    macs: float | None,
    published: Mapping[str, float],
    path: Path,
) -> None:
    """One panel for parameters, one for MACs: published models as points, the scored one as star.

    Where the size of the scored model is not known, its score is a dashed line.

    Args:
        parameters: in millions.
        macs: in 10^9, by the leaderboard's profiler.
        published: name of a model in `PUBLISHED` -> its score over the same tasks.
    """
    figure, axes = panels(2, 6, 4.2)
    labels = "parameters (M)", "MACs (G, leaderboard's profiler)"
    gap = 0.04 * (max(published.values()) - min(published.values()))
    for axis, label, key, size in zip(
        axes, labels, ("parameters", "macs"), (parameters, macs), strict=True
    ):
        sizes = {model: getattr(PUBLISHED[model], key) for model in published}
        known = [model for model in published if sizes[model] is not None]
        axis.scatter([sizes[m] for m in known], [published[m] for m in known], color="0.5", s=25)
        middle = sum(sizes[model] for model in known) / len(known)
        for right in (False, True):
            # Names stand towards the middle, so that they stay inside the axes.
            side = {m: published[m] for m in known if (sizes[m] > middle) == right}
            for model, height in _spread(side, gap).items():
                place = (sizes[model] + (-0.05 if right else 0.05) * middle, height)
                look = {"ha": "right" if right else "left", "va": "center", "fontsize": 7}
                axis.annotate(model, (sizes[model], published[model]), place, **look)
        if size is None:
            axis.axhline(score, color="tab:blue", ls="--", lw=1, label=f"{name} (size not given)")
        else:
            axis.scatter([size], [score], color="tab:blue", marker="*", s=120, label=name)
        axis.set(xlabel=label, ylabel="SUPERB score")
        axis.set_xlim(left=0)
        axis.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    save_figure(figure, path)
