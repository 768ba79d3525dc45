"""Term-weighted values of query-by-example search: actual (ATWV) and maximum (MTWV).

At a threshold, TWV = 1 - mean over queries of (P_miss + beta P_fa), where P_miss is the share of
the documents that hold the query and score below the threshold, P_fa the share of the others that
score at or above it, and beta = C_fa / C_miss (1 / P_target - 1). Queries that no document holds
are left out (NIST, "The Spoken Term Detection (STD) 2006 Evaluation Plan"). MTWV is the TWV at the
threshold that is best on these very data; for ATWV the threshold comes from elsewhere.
"""

import numpy as np

from espnet_prune.evaluate.metrics import bootstrap
from espnet_prune.evaluate.metrics.bootstrap import Estimate, draw_counts, interval, ratio_of_sums

# QUESST 2014, as remembered: neither its paper nor its scoring tool could be read here.
TARGET_PRIOR, MISS_COST, FALSE_ALARM_COST = 0.0008, 100.0, 1.0
BETA = FALSE_ALARM_COST / MISS_COST * (1 / TARGET_PRIOR - 1)


def _checked(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and targets of the queries that some document holds."""
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=bool)
    if scores.ndim != 2 or scores.shape != targets.shape:
        raise ValueError(f"scores have shape {scores.shape}, targets have {targets.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not a finite number")
    held = targets.any(axis=1)
    if not held.any():
        raise ValueError("no document holds any of the queries: there is nothing to find")
    return scores[held], targets[held]


def _worthless(scores: np.ndarray, targets: np.ndarray, beta: float) -> float:
    """A score at and below which no threshold has a positive value, whichever queries are drawn.

    There each query has P_fa of at least 1 / beta. The scores above are few where beta is large.
    """
    others = (~targets).sum(axis=1)
    enough = np.ceil(others / beta).astype(int)  # false alarms that cost as much as all targets
    if (enough > others).any() or not others.all():
        return -np.inf
    ranked = -np.sort(-np.where(targets, -np.inf, scores), axis=1)
    return float(ranked[np.arange(len(scores)), enough - 1].min())


def actual_term_weighted_value(
    scores: np.ndarray,
    targets: np.ndarray,
    threshold: float,
    beta: float = BETA,
    resamples: int = bootstrap.RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """TWV at a threshold that was chosen on other data, with its interval over queries.

    Args:
        scores: higher is more likely, shape (queries, documents).
        targets: whether the document holds the query, same shape.
        threshold: a document with this score or a higher one is taken to hold the query.
    Raises:
        ValueError: shapes differ, a score is not finite, or no document holds any query.
    """
    scores, targets = _checked(scores, targets)
    found = scores >= threshold
    miss = (~found & targets).sum(axis=1) / targets.sum(axis=1)
    false_alarm = (found & ~targets).sum(axis=1) / np.maximum((~targets).sum(axis=1), 1)
    values = 1 - miss - beta * false_alarm
    return ratio_of_sums(values, np.ones_like(values), resamples, seed)


def maximum_term_weighted_value(
    scores: np.ndarray,
    targets: np.ndarray,
    beta: float = BETA,
    resamples: int = bootstrap.FEWER_RESAMPLES,
    seed: int = 0,
) -> tuple[Estimate, float]:
    """MTWV with its interval over queries, and its threshold.

    A threshold above all scores finds nothing, which has the value 0: MTWV is never negative. Each
    resample has a threshold of its own. Of several best thresholds the highest is returned.

    Arguments and errors are those of `actual_term_weighted_value`.
    """
    scores, targets = _checked(scores, targets)
    queries, highest = len(scores), scores.max()
    query, document = np.nonzero(scores > _worthless(scores, targets, beta))
    if not len(query):
        return Estimate(0.0, 0.0, 0.0), float(np.nextafter(highest, np.inf))
    # Going down the scores, each target found adds to the value and each false alarm takes away.
    gain = targets / targets.sum(axis=1, keepdims=True)
    loss = beta * ~targets / np.maximum((~targets).sum(axis=1, keepdims=True), 1)
    order = np.argsort(-scores[query, document], kind="stable")
    query, document = query[order], document[order]
    steps, ranked = (gain - loss)[query, document] / queries, scores[query, document]
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))  # tied scores are found together

    def best(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Rounded, so that equally good thresholds stay equal.
        values = np.cumsum(weights[:, query] * steps, axis=1)[:, last].round(12)
        return values.max(axis=1), values.argmax(axis=1)

    values = [best(counts)[0] for counts in draw_counts(queries, resamples, seed, width=len(query))]
    (value,), (where,) = best(np.ones((1, queries)))
    threshold = ranked[last[where]] if value > 0 else np.nextafter(highest, np.inf)
    ends = interval(np.maximum(np.concatenate(values), 0))
    return Estimate(max(float(value), 0.0), *ends), float(threshold)
