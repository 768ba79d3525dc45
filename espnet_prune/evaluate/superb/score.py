"""The SUPERB score, and the published models to compare with.

superb_s = 1000 / |T| sum over tasks t of the mean over t's metrics of
(s - FBANK) / (SOTA - FBANK): 0 is filter banks, 1000 the best published model of each task when
the score was defined (Feng et al., "SUPERB @ SLT 2022", arXiv 2210.08634). Only slot filling has
two metrics. Error rates need no sign of their own: both differences are negative.

The metrics, the ends of their scales and the published models stand in superb.yaml, in the
leaderboard's units: percent, and 100 MTWV for QbE.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from espnet_prune.files.reading import package_table


@dataclass(frozen=True)
class Metric:
    """One column of the leaderboard, see superb.yaml."""

    task: str
    measure: str
    title: str
    sota: float
    fbank: float

    @property
    def rate_of_errors(self) -> bool:
        """Whether lower is better."""
        return self.sota < self.fbank

    def share(self, value: float) -> float:
        """The share of the way from `fbank` to `sota`."""
        return (value - self.fbank) / (self.sota - self.fbank)


@dataclass(frozen=True)
class PublishedModel:
    """Figures of a published model, see superb.yaml."""

    paper: str
    parameters: float
    macs: float | None
    values: dict[str, float]
    score: float


_FACTS = package_table(__package__, "superb.yaml")
METRICS = {name: Metric(**entry) for name, entry in _FACTS["metrics"].items()}
TASKS = tuple(dict.fromkeys(metric.task for metric in METRICS.values()))
PUBLISHED = {name: PublishedModel(**entry) for name, entry in _FACTS["models"].items()}


@dataclass(frozen=True)
class SuperbScore:
    """The score of a set of tasks.

    Attributes:
        score: about 0 (filter banks) to 1000 (best published model of each task).
        tasks: share of the way from filter banks to the best, times 1000, for each task scored.
        missing: the tasks without figures.
    """

    score: float
    tasks: dict[str, float]
    missing: list[str]


def superb_score(values: Mapping[str, float]) -> SuperbScore:
    """The SUPERB score over the tasks whose figures are given.

    Args:
        values: metric (a key of `METRICS`) -> figure in the leaderboard's units.
    Raises:
        ValueError: a metric is unknown, a figure is no number or impossible, one of the two
            metrics of slot filling is missing, or there is no figure at all.
    """
    for name, value in values.items():
        if name not in METRICS:
            raise ValueError(f"metric '{name}' is unknown; known are {', '.join(METRICS)}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise ValueError(f"{name}: {value!r} is not a finite number")
        # Error rates may pass 100 (insertions) and TWV may be negative.
        highest = math.inf if METRICS[name].rate_of_errors else 100
        if value > highest or (value < 0 and name != "QbE"):
            raise ValueError(f"{name}: {value} cannot be; figures are in percent (QbE: 100 MTWV)")
    tasks: dict[str, float] = {}
    missing = []
    for task in TASKS:
        names = [name for name, metric in METRICS.items() if metric.task == task]
        absent = [name for name in names if name not in values]
        if absent == names:
            missing.append(task)
        elif absent:
            raise ValueError(f"{absent[0]} is missing: {task} needs {' and '.join(names)}")
        else:
            shares = [METRICS[name].share(values[name]) for name in names]
            tasks[task] = 1000 * sum(shares) / len(names)
    if not tasks:
        raise ValueError(f"there are no figures to score; known are {', '.join(METRICS)}")
    return SuperbScore(sum(tasks.values()) / len(tasks), tasks, missing)


def published_score(model: PublishedModel, missing: list[str]) -> float:
    """A published model's score without some tasks, to compare with a model that lacks them."""
    values = {k: v for k, v in model.values.items() if METRICS[k].task not in missing}
    return superb_score(values).score
