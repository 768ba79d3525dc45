"""Equal error rate of speaker verification."""

import numpy as np

from espnet_prune.evaluate.metrics.bootstrap import FEWER_RESAMPLES, Estimate, draw_counts, interval


def _weighted_rates(target: np.ndarray, other: np.ndarray, last: np.ndarray) -> np.ndarray:
    """EER for each row of weights.

    Args:
        target, other: weights of the target and the other trials, highest score first, each of
            shape (rows, trials), zero where a trial is of the other kind.
        last: positions where the next trial has a lower score, shape (points,): tied scores are
            accepted together.
    Returns:
        Rates of shape (rows,); not a number where a row has no target or no other trial.
    """
    zero = np.zeros((len(target), 1))
    hits = np.hstack([zero, np.cumsum(target, axis=1)[:, last]])
    alarms = np.hstack([zero, np.cumsum(other, axis=1)[:, last]])
    with np.errstate(invalid="ignore"):
        false_alarm = alarms / alarms[:, -1:]
        gap = false_alarm - (1 - hits / hits[:, -1:])  # false alarms minus misses, from -1 to 1
    after = np.maximum((gap >= 0).argmax(axis=1), 1)
    row = np.arange(len(gap))
    gap_before, gap_after = gap[row, after - 1], gap[row, after]
    start, end = false_alarm[row, after - 1], false_alarm[row, after]
    return start - gap_before / (gap_after - gap_before) * (end - start)


def equal_error_rate(
    scores: np.ndarray,
    targets: np.ndarray,
    speakers: np.ndarray | None = None,
    resamples: int = FEWER_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """The error rate where as many targets are missed as others accepted, as a fraction.

    It lies on the ROC curve, with straight lines between its points. No threshold is chosen.

    The trials of one speaker are not independent. With ``speakers``, speakers are drawn, and a
    trial of speakers a and b counts as often as a times as often as b was drawn (a trial of one
    speaker: as often as that speaker). Without, trials are drawn as if independent, and the
    interval is too narrow. Draws without a target or without another trial are left out.

    Args:
        scores: higher is more alike, shape (trials,).
        targets: whether both sides are one speaker, shape (trials,).
        speakers: names or numbers of the speakers of both sides, shape (trials, 2).
    Raises:
        ValueError: shapes differ, a score is not finite, or there is no target or no other trial,
            or too few for an interval.
    """
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=bool)
    if scores.ndim != 1 or scores.shape != targets.shape:
        raise ValueError(f"{scores.shape} scores but {targets.shape} labels of trials")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not a finite number")
    if targets.all() or not targets.any():
        raise ValueError("an equal error rate needs target trials and others; one kind is missing")
    order = np.argsort(-scores, kind="stable")
    scores, targets = scores[order], targets[order]
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True))

    def rates(weights: np.ndarray) -> np.ndarray:
        return _weighted_rates(weights * targets, weights * ~targets, last)

    trials = len(scores)
    if speakers is None:
        drawn = draw_counts(trials, resamples, seed)
    else:
        names, sides = np.unique(np.asarray(speakers)[order], return_inverse=True)
        first, second = sides.reshape(trials, 2).T
        drawn = (
            np.where(first == second, counts[:, first], counts[:, first] * counts[:, second])
            for counts in draw_counts(len(names), resamples, seed, width=trials)
        )
    values = np.concatenate([rates(weights) for weights in drawn])
    values = values[~np.isnan(values)]
    if not len(values):
        raise ValueError("too few trials: no resample has targets and others")
    return Estimate(float(rates(np.ones((1, trials)))[0]), *interval(values))
