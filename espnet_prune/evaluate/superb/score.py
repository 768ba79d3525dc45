"""The SUPERB score, and the published models to compare with.

superb_s = 1000 / |T| sum over tasks t of the mean over t's metrics of
(s - FBANK) / (SOTA - FBANK): 0 is filter banks, 1000 the best published model of each task when
the score was defined (Feng et al., "SUPERB @ SLT 2022", arXiv 2210.08634). Only slot filling has
two metrics. Error rates need no sign of their own: both differences are negative.

All figures are in the leaderboard's units: percent, and 100 MTWV for QbE.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One column of the leaderboard.

    Attributes:
        task: its task, and the name of the task's folder of results.
        measure: what is measured; the key in the task's scores.json.
        title: what is measured, to be read.
        sota, fbank: figures with the score 1000 and 0.
    """

    task: str
    measure: str
    title: str
    sota: float
    fbank: float

    @property
    def rate_of_errors(self) -> bool:
        """Whether lower is better."""
        return self.sota < self.fbank


METRICS = {
    "PR": Metric("PR", "per", "PER", 3.53, 82.01),
    "ASR": Metric("ASR", "wer", "WER", 3.62, 23.18),
    "KS": Metric("KS", "accuracy", "accuracy", 96.66, 41.38),
    "QbE": Metric("QbE", "mtwv", "100 MTWV", 7.36, 0.58),
    "SID": Metric("SID", "accuracy", "accuracy", 90.33, 20.06),
    "ASV": Metric("ASV", "eer", "EER", 5.11, 9.56),
    "SD": Metric("SD", "der", "DER", 5.62, 10.05),
    "IC": Metric("IC", "accuracy", "accuracy", 98.76, 9.65),
    "SF-F1": Metric("SF", "slot_type_f1", "slot-type F1", 89.81, 69.64),
    "SF-CER": Metric("SF", "slot_value_cer", "slot-value CER", 21.76, 52.94),
    "ER": Metric("ER", "accuracy", "accuracy", 67.62, 48.24),
}
TASKS = tuple(dict.fromkeys(metric.task for metric in METRICS.values()))


@dataclass(frozen=True)
class PublishedModel:
    """Figures of a published model.

    Attributes:
        parameters: in millions.
        macs: in 10^9, by the leaderboard's profiler; None where it is not known.
        values: metric -> figure.
        score: the published SUPERB score.
    """

    parameters: float
    macs: float | None
    values: dict[str, float]
    score: float


def _model(parameters: float, macs: float | None, *figures: float) -> PublishedModel:
    *values, score = figures
    return PublishedModel(parameters, macs, dict(zip(METRICS, values, strict=True)), score)


# From the SUPERB leaderboard and the models' papers, as collected in the project's notes
# (facts/structured_pruning.md). Columns: M parameters, G MACs, METRICS in order, score.
# fmt: off
PUBLISHED = {
    "WavLM Base+": _model(
        94.7, 1670, 3.92, 5.59, 97.37, 9.88, 89.42, 4.07, 3.50, 99.00, 90.58, 21.20, 68.65, 1106),
    "HuBERT Base": _model(
        94.7, 1669, 5.41, 6.42, 96.30, 7.36, 81.42, 5.11, 5.88, 98.34, 88.53, 25.20, 64.92, 941),
    "wav2vec 2.0 Base": _model(
        95.0, 1669, 5.74, 6.43, 96.23, 2.33, 75.18, 6.02, 6.08, 92.35, 88.30, 24.77, 63.43, 818),
    "DPWavLM": _model(
        23.59, 589, 8.22, 10.19, 96.27, 8.74, 82.11, 5.98, 5.53, 98.58, 87.68, 26.11, 65.24, 926),
    "LightHuBERT-S": _model(
        27.0, 861, 6.60, 8.34, 96.07, 7.64, 69.70, 5.42, 5.85, 98.23, 87.58, 26.90, 64.12, 901),
    "STaRHuBERT-L": _model(
        26.63, 512, 7.97, 8.91, 96.56, 6.77, 78.66, 5.45, 5.83, 97.50, 88.01, 25.36, 63.48, 896),
    "DPHuBERT": _model(
        23.59, 654, 9.67, 10.47, 96.36, 6.93, 76.83, 5.84, 5.92, 97.92, 86.86, 28.26, 63.16, 866),
    "DistilHuBERT": _model(
        23.49, None, 16.27, 13.37, 95.98, 5.11, 73.54, 8.55, 6.19, 94.99, 82.57, 35.59, 63.02, 717),
}
# fmt: on


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
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
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
            raise ValueError(
                f"{absent[0]} is missing: {task} counts only with {' and '.join(names)}"
            )
        else:
            tasks[task] = 1000 * sum(_share(name, values[name]) for name in names) / len(names)
    if not tasks:
        raise ValueError(f"there are no figures to score; known are {', '.join(METRICS)}")
    return SuperbScore(sum(tasks.values()) / len(tasks), tasks, missing)


def _share(name: str, value: float) -> float:
    metric = METRICS[name]
    return (value - metric.fbank) / (metric.sota - metric.fbank)


def published_score(model: PublishedModel, missing: list[str]) -> float:
    """A published model's score without some tasks, to compare with a model that lacks them."""
    values = {k: v for k, v in model.values.items() if METRICS[k].task not in missing}
    return superb_score(values).score
