"""Accuracy of classification, over one test set or as the mean over folds, with 95% interval.

The whole value behind the key is the label, so an intent with three slots is right as a whole. An
utterance without hypothesis counts as wrong.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from espnet_prune.bin.score_output import add_output, read_pair
from espnet_prune.cli import errors as cli
from espnet_prune.evaluate.metrics import accuracy, correct
from espnet_prune.evaluate.report import metric, write_scores


def run(args: argparse.Namespace) -> None:
    if len(args.ref) != len(args.hyp):
        raise ValueError(f"--ref has {len(args.ref)} folds but --hyp {len(args.hyp)}; give as many")
    folds, missing = [], []
    for ref, hyp in zip(args.ref, args.hyp, strict=True):
        references, hypotheses, absent = read_pair(ref, hyp, "it counts as wrong")
        if not references:
            raise ValueError(f"{ref}: has no utterances")
        empty = [value for value in references if not value]
        if empty:
            raise ValueError(f"{ref}: {len(empty)} utterances have no label")
        folds.append(correct(references, hypotheses))
        missing += absent
    mean = accuracy(folds)
    write_scores(
        args.output_dir,
        {"accuracy": metric(mean.value, mean)},
        folds=[float(fold.mean()) for fold in folds],
        utterances=sum(map(len, folds)),
        missing=missing,
    )


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--ref",
        type=Path,
        nargs="+",
        required=True,
        help="'utterance label' lines, one file a fold",
    )
    parser.add_argument(
        "--hyp", type=Path, nargs="+", required=True, help="hypotheses, in the same form and order"
    )
    add_output(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
