"""Plots: accuracy and evidence recall against the rate, what was kept, and where tokens lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from espnet_prune.data.sir.speech import Span
from espnet_prune.evaluate.figures import panels, plt, save_figure
from espnet_prune.evaluate.metrics.bootstrap import Estimate
from espnet_prune.evaluate.sir.answers import Answer

#: strategy -> pruning rate -> measure
Curves = Mapping[str, Mapping[float, Estimate]]


def plot_rates(
    measures: Mapping[str, tuple[Curves, Mapping[str, float]]],
    path: Path,
    strategies: Sequence[str],
) -> None:
    """A panel for each measure, a line for each strategy, with 95% intervals.

    Args:
        measures: title -> curves and horizontal lines (label -> value), all as fractions.
        strategies: in the order of their colours, the same in every panel.
    """
    figure, axes = panels(len(measures), 5.2, 5.4)
    for axis, (title, (curves, levels)) in zip(axes, measures.items(), strict=True):
        for n, strategy in enumerate(strategies):
            points = sorted(curves.get(strategy, {}).items())
            shift = 0.004 * (n - len(strategies) / 2)  # so that intervals do not hide each other
            values = [100 * of.value for _, of in points]
            below = [100 * (of.value - of.low) for _, of in points]
            above = [100 * (of.high - of.value) for _, of in points]
            style = {"fmt": "o-", "ms": 4, "lw": 1.2, "elinewidth": 0.6, "color": f"C{n}"}
            rates = [rate + shift for rate, _ in points]
            axis.errorbar(rates, values, [below, above], label=strategy, **style)
        for n, (label, value) in enumerate(levels.items()):
            axis.axhline(100 * value, color="0.4", ls=(0, (1 + 3 * n, 2)), lw=0.9, label=label)
        axis.set(xlabel="pruning rate", ylabel=f"{title} (%)", title=title)
        axis.legend(fontsize=7, ncol=2, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    save_figure(figure, path)


def plot_strip(
    items: Sequence[Sequence[Answer]], spans: Mapping[str, Span], frame_tokens: float, path: Path
) -> None:
    """What was kept on the time line: a panel for each item, a row for each condition.

    Args:
        items: for each item its answers under some conditions.
        spans: key sentences by id, marked where they are known.
    """
    heights = [len(rows) + 1 for rows in items]
    size = 10, 0.8 * len(items) + 0.28 * sum(map(len, items))
    figure, axes = plt.subplots(
        len(items), figsize=size, squeeze=False, height_ratios=heights, layout="tight"
    )
    for axis, rows in zip(axes.flat, items, strict=True):
        name = rows[0].id
        if span := spans.get(name):
            axis.axvspan(span.start, span.end, color="tab:orange", alpha=0.35, label="key sentence")
            axis.legend(loc="upper right", fontsize=7)
        for n, answer in enumerate(rows):
            bars = [(k / frame_tokens, 1 / frame_tokens) for k in answer.kept]
            axis.broken_barh(bars, (n - 0.35, 0.7), color="tab:blue", lw=0)
        axis.set(xlim=(0, rows[0].seconds), ylim=(len(rows) - 0.4, -0.6), title=name)
        axis.set_xlabel("seconds")
        axis.set_yticks(range(len(rows)), [a.condition.name for a in rows], fontsize=7)
    save_figure(figure, path)


def tsne(groups: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    """Place the tokens of all groups in one plane by t-SNE (van der Maaten & Hinton, 2008).

    Tokens are scaled to length 1 first: neighbours are then those of great cosine similarity, which
    is what the pruner reads, and text and audio are not apart by their lengths alone.

    Args:
        groups: label -> (N_i, D).
    Returns: label -> (N_i, 2).
    Raises:
        ValueError: fewer than five tokens.
    """
    from sklearn.manifold import TSNE  # takes a second to import

    tokens = np.concatenate([np.asarray(rows, np.float32) for rows in groups.values()])
    if len(tokens) < 5:
        raise ValueError(f"{len(tokens)} tokens are too few for a t-SNE")
    tokens = tokens / np.maximum(np.linalg.norm(tokens, axis=1, keepdims=True), 1e-12)
    perplexity = min(30.0, (len(tokens) - 1) / 3)
    plane = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(tokens)
    ends = np.cumsum([len(rows) for rows in groups.values()])
    return dict(zip(groups, np.split(plane, ends[:-1]), strict=True))


def plot_tokens(groups: Mapping[str, np.ndarray], path: Path, title: str) -> None:
    """Points of `tsne`: Figure 2 of arXiv 2412.12009.

    Args:
        groups: dropped audio tokens, kept ones, text tokens: label -> (N_i, 2), in this order.
    """
    figure, axis = plt.subplots(figsize=(6.5, 5.5), layout="tight")
    styles = [("0.7", ".", 14), ("tab:blue", ".", 22), ("tab:red", "*", 90)]
    for (label, points), (color, marker, size) in zip(groups.items(), styles, strict=True):
        label = f"{label} ({len(points)})"
        axis.scatter(*points.T, s=size, c=color, marker=marker, lw=0, label=label)
    axis.set(title=title, xticks=[], yticks=[])
    axis.legend(fontsize=8)
    save_figure(figure, path)
