"""Scorer of query-by-example search: MTWV and ATWV of the scores of queries in documents."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from espnet_prune.data.data_dir import read_table
from espnet_prune.evaluate.metrics.term_weighted_value import (
    actual_term_weighted_value,
    maximum_term_weighted_value,
)
from espnet_prune.evaluate.report import write_scores
from espnet_prune.evaluate.scoring.reading import finite
from espnet_prune.files.reading import read_lines

logger = logging.getLogger(__name__)


def score_twv(
    ref: Path,
    scores: Mapping[str, Path],
    output_dir: Path,
    dev_ref: Path | None = None,
    dev_scores: Mapping[str, Path] | None = None,
) -> str:
    """Term-weighted values of one system, the best of several on the development set.

    Args:
        ref, dev_ref: ``query documents that hold it`` lines.
        scores, dev_scores: system (such as a layer) -> its ``query document score`` lines.
    """
    dev_scores = dev_scores or {}
    if bool(dev_scores) != bool(dev_ref):
        raise ValueError("--dev_ref and --dev_scores belong together; give both or none")
    if dev_scores and dev_scores.keys() != scores.keys():
        odd = sorted(dev_scores.keys() ^ scores.keys())[0]
        raise ValueError(f"'{odd}' is in only one of --scores and --dev_scores")
    if len(scores) > 1 and not dev_scores:
        raise ValueError("several --scores need --dev_ref and --dev_scores to choose one")
    chosen = next(iter(scores))
    if dev_ref is not None:
        chosen, threshold, values = choose(dev_ref, dev_scores)
    matrix, targets = read_trials(ref, scores[chosen])
    mtwv, test_threshold = maximum_term_weighted_value(matrix, targets)
    metrics = {"mtwv": mtwv}
    found = {"queries": int(targets.any(axis=1).sum()), "documents": matrix.shape[1]}
    found["mtwv_threshold"] = test_threshold
    if dev_ref is not None:
        metrics["atwv"] = actual_term_weighted_value(matrix, targets, threshold)
        found |= {"chosen_on_dev": chosen, "dev_mtwv": values, "dev_threshold": threshold}
    return write_scores(output_dir, metrics, **found)


def choose(dev_ref: Path, systems: Mapping[str, Path]) -> tuple[str, float, dict[str, float]]:
    """The best system on the development set, its threshold there, and the MTWV of all."""
    values, thresholds = {}, {}
    for name, path in systems.items():
        # Only the value counts here; one resample is enough.
        trials = read_trials(dev_ref, path)
        best, thresholds[name] = maximum_term_weighted_value(*trials, resamples=1)
        values[name] = best.value
        logger.info("%s: MTWV %.4f on the development set", name, best.value)
    chosen = max(values, key=values.__getitem__)
    return chosen, thresholds[chosen], values


def read_trials(ref: Path, scores: Path) -> tuple[np.ndarray, np.ndarray]:
    """Scores and whether the document holds the query, both of shape (queries, documents).

    Each query of either file has a line in the reference, and a score for each document.
    """
    holding = {query: set(value.split()) for query, value in read_table(ref).items()}
    found: dict[str, dict[str, float]] = {query: {} for query in holding}
    for number, line in enumerate(read_lines(scores), 1):
        try:
            query, document, score = line.split()
            value = finite(score)
        except ValueError:
            raise ValueError(f"{scores}: line {number}: not 'query document score'") from None
        if query not in found:
            raise ValueError(f"{scores}: line {number}: query {query} is not in {ref}")
        if document in found[query]:
            raise ValueError(f"{scores}: line {number}: {query} {document} is there twice")
        found[query][document] = value
    documents = sorted(set().union(*found.values(), *holding.values()))
    for query, row in found.items():
        absent = [document for document in documents if document not in row]
        if absent:
            lacks = f"scores of {len(absent)} documents, the first is {absent[0]}"
            raise ValueError(f"{scores}: query {query} lacks {lacks}")
    matrix = np.array([[row[document] for document in documents] for row in found.values()])
    targets = np.array([[document in held for document in documents] for held in holding.values()])
    return matrix, targets
