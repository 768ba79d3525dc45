"""Plots of pruning: the course of training and what is left of each layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from espnet_prune.evaluate.figures import panels, save_figure
from espnet_prune.structured import Plan
from espnet_prune.structured.families import KINDS
from espnet_prune.structured.gates import GAMMA, ZETA, hard_concrete, stretched_concrete

_TARGET = re.compile(r"_\d*\.?\d+$")


def plot_course(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Losses, and with gates sparsities and multipliers, over updates.

    Args:
        rows: of `updates.jsonl`.
    """
    if not rows:
        return
    drawn = {"distillation loss": [key for key in rows[-1] if key.startswith("distill")]}
    if "lambda1" in rows[-1]:
        drawn["sparsity"] = ["sparsity_target", "sparsity_expected", "sparsity_exact"]
        drawn["multipliers"] = ["lambda1", "lambda2"]
    _plot_updates({title: {k: (rows, k) for k in keys} for title, keys in drawn.items()}, path)


def plot_compare(runs: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Exact sparsity and distillation loss over updates, one line for each run.

    Args:
        runs: name -> rows of `updates.jsonl`.
    """
    titles = {"sparsity_exact": "exact sparsity", "distill": "distillation loss"}
    lines = {t: {name: (runs[name], key) for name in runs} for key, t in titles.items()}
    _plot_updates(lines, path)


def _plot_updates(drawn: Mapping[str, Mapping[str, tuple]], path: Path) -> None:
    """A panel for each title, with a line over updates for each label: (rows, key)."""
    figure, axes = panels(len(drawn), 5, 3.5)
    for axis, (title, lines) in zip(axes, drawn.items(), strict=True):
        for label, (rows, key) in lines.items():
            axis.plot([r["update"] for r in rows], [r.get(key) for r in rows], label=label, lw=1)
        axis.set(xlabel="updates", title=title)
        axis.legend(fontsize=8)
    save_figure(figure, path)


def plot_kept(plan: Plan, masks: Mapping[str, Tensor], path: Path) -> None:
    """Bars of kept over all units, one panel for each kind of site, one bar for each layer.

    Args:
        plan: of the dense architecture.
        masks: canonical masks, site -> (size,).
    """
    by_kind = {kind: [n for n, site in plan.sites.items() if site.kind == kind] for kind in KINDS}
    by_kind = {kind: names for kind, names in by_kind.items() if names}
    columns = min(4, len(by_kind))
    figure, axes = panels(columns, 4, 2.8, rows=-(-len(by_kind) // columns))
    for axis, (kind, names) in zip(axes, by_kind.items(), strict=False):
        numbers = range(len(names))
        axis.bar(numbers, [plan.sites[n].size for n in names], color="0.88", label="dense")
        kept = axis.bar(numbers, [int(masks[n].sum()) for n in names], color="tab:blue")
        axis.bar_label(kept, fontsize=7)
        axis.set(title=KINDS[kind].title, xlabel="layer", xticks=list(numbers))
        axis.grid(visible=False)
    for axis in axes[len(by_kind) :]:
        axis.axis("off")
    save_figure(figure, path)


def plot_experiments(
    groups: Mapping[str, Sequence[Mapping[str, float]]], size: str, keys: Sequence[str], path: Path
) -> None:
    """What models are worth against their sizes, a line for each method: experiments that differ
    only in the number at the end of their names, such as ours_0.5 and ours_0.7.

    Args:
        groups: experiment -> numbers of its runs; means are drawn, with bars from the least to the
            greatest.
        size: key of the horizontal axis.
        keys: of the vertical axes, a panel each.
    """
    methods: dict[str, list[Sequence[Mapping[str, float]]]] = {}
    for name, runs in groups.items():
        methods.setdefault(_TARGET.sub("", name).removeprefix("ssl_prune_"), []).append(runs)
    figure, axes = panels(len(keys), 4.5, 3.5)
    for axis, key in zip(axes, keys, strict=True):
        for name, points in methods.items():
            points = sorted(points, key=lambda runs: fmean(run[size] for run in runs))
            values = [[run[key] for run in runs] for runs in points]
            means = list(map(fmean, values))
            bars = np.abs(np.subtract([list(map(min, values)), list(map(max, values))], means))
            sizes = [fmean(run[size] for run in runs) for runs in points]
            axis.errorbar(sizes, means, bars, fmt="o-", ms=4, lw=1, capsize=3, label=name)
        axis.set(xlabel=size, ylabel=key)
        axis.legend(fontsize=8)
    save_figure(figure, path)


def plot_gates(path: Path, samples: int = 500, seed: int = 0) -> None:
    """z and s_bar of a gate: their distributions, and their means against log alpha.

    Figure 1 of arXiv 2306.01385. Shaded is where the mean of s_bar is outside (0, 1): there most
    draws are clamped, and without the straight-through estimator z has no gradient.

    Args:
        samples: draws that the means are taken over.
    """
    generator = torch.Generator().manual_seed(seed)
    figure, (left, right) = panels(2, 5, 3.5)
    bins = torch.linspace(GAMMA, ZETA, 61)
    u = torch.rand(100 * samples, generator=generator).clamp(1e-6, 1 - 1e-6)
    s_bar = stretched_concrete(torch.zeros(()), u)
    for values, name in ((s_bar, "s_bar"), (hard_concrete(torch.zeros(()), u), "z")):
        left.hist(values.numpy(), bins.numpy(), density=True, alpha=0.5, label=name)
    left.set(xlabel="value at log alpha = 0", ylabel="density", yscale="log")

    log_alpha = torch.linspace(-4, 4, 161)
    # The same draws for all values of log alpha, so that the curves are smooth
    u = torch.rand(samples, 1, generator=generator).clamp(1e-6, 1 - 1e-6)
    means = stretched_concrete(log_alpha, u).mean(0)
    right.plot(log_alpha, means, label="s_bar")
    right.plot(log_alpha, hard_concrete(log_alpha, u).mean(0), label="z")
    clamped = ((means <= 0) | (means >= 1)).numpy()
    right.fill_between(log_alpha, GAMMA, ZETA, where=clamped, alpha=0.2, color="grey")
    right.set(xlabel="log alpha", ylabel=f"mean of {samples} samples")
    for axis in (left, right):
        axis.legend(fontsize=8)
    save_figure(figure, path)
