"""Term-weighted values of query-by-example search, with 95% confidence intervals.

mtwv is the value at the threshold that is best on the test set itself, by its definition; atwv is
the value at the threshold that is best on the development set. Of several systems (as the layers
of an encoder) the one with the best MTWV on the development set is scored.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from espnet_prune.bin.score_output import add_output
from espnet_prune.cli import errors as cli
from espnet_prune.data.data_dir import read_table
from espnet_prune.evaluate.metrics import actual_term_weighted_value, maximum_term_weighted_value
from espnet_prune.evaluate.report import metric, write_scores

logger = logging.getLogger(__name__)


def read_trials(ref: Path, scores: Path) -> tuple[np.ndarray, np.ndarray]:
    """Scores and whether the document holds the query, both of shape (queries, documents).

    Raises:
        ValueError: a line is malformed or there twice, a query has no line in the reference or no
            scores, a document of the reference or of one query's scores lacks a score.
    """
    holding = {query: set(value.split()) for query, value in read_table(ref).items()}
    found: dict[str, dict[str, float]] = {query: {} for query in holding}
    if not scores.is_file():
        raise FileNotFoundError(f"{scores}: no such file")
    with scores.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                query, document, score = line.split()
                value = float(score)
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
            raise ValueError(
                f"{scores}: query {query} lacks scores of {len(absent)} documents, "
                f"the first is {absent[0]}"
            )
    matrix = np.array([[row[document] for document in documents] for row in found.values()])
    targets = np.array(
        [[d in documents_held for d in documents] for documents_held in holding.values()]
    )
    return matrix, targets


def by_name(option: str, pairs: list[list[str]]) -> dict[str, Path]:
    named = {name: Path(path) for name, path in pairs}
    if len(named) != len(pairs):
        raise ValueError(f"{option}: a name is there twice")
    return named


def choose(dev_ref: Path, systems: Mapping[str, Path]) -> tuple[str, float, dict[str, float]]:
    """The best system on the development set, its threshold there, and the MTWV of all."""
    values, thresholds = {}, {}
    for name, path in systems.items():
        # Only the value counts here; one resample is enough.
        best, thresholds[name] = maximum_term_weighted_value(
            *read_trials(dev_ref, path), resamples=1
        )
        values[name] = best.value
        logger.info("%s: MTWV %.4f on the development set", name, best.value)
    chosen = max(values, key=values.__getitem__)
    return chosen, thresholds[chosen], values


def run(args: argparse.Namespace) -> None:
    systems = by_name("--scores", args.scores)
    dev = by_name("--dev_scores", args.dev_scores)
    if bool(dev) != bool(args.dev_ref):
        raise ValueError("--dev_ref and --dev_scores belong together; give both or none")
    if dev and dev.keys() != systems.keys():
        odd = sorted(dev.keys() ^ systems.keys())[0]
        raise ValueError(f"'{odd}' is in only one of --scores and --dev_scores")
    if len(systems) > 1 and not dev:
        raise ValueError("several --scores need --dev_ref and --dev_scores to choose one")
    details: dict = {}
    chosen = next(iter(systems))
    if dev:
        chosen, threshold, values = choose(args.dev_ref, dev)
        details = {"chosen_on_dev": chosen, "dev_mtwv": values, "dev_threshold": threshold}
    scores, targets = read_trials(args.ref, systems[chosen])
    mtwv, test_threshold = maximum_term_weighted_value(scores, targets)
    metrics = {"mtwv": metric(mtwv.value, mtwv)}
    if dev:
        atwv = actual_term_weighted_value(scores, targets, threshold)
        metrics["atwv"] = metric(atwv.value, atwv)
    write_scores(
        args.output_dir,
        metrics,
        queries=int(targets.any(axis=1).sum()),
        documents=scores.shape[1],
        mtwv_threshold=test_threshold,
        **details,
    )


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--ref",
        type=Path,
        required=True,
        help="'query documents that hold it' lines of the test set",
    )
    parser.add_argument(
        "--scores",
        nargs=2,
        action="append",
        required=True,
        metavar=("NAME", "FILE"),
        help="name of a system and its 'query document score' lines, one for each pair",
    )
    parser.add_argument("--dev_ref", type=Path, help="as --ref, of the development set")
    parser.add_argument(
        "--dev_scores",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "FILE"),
        help="as --scores, of the development set",
    )
    add_output(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
