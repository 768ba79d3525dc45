"""Phone error rate with 95% confidence interval; phones are compared as they are written.

An utterance without hypothesis counts as deleted.
"""

from __future__ import annotations

import argparse
import logging

from espnet_prune.bin.score_output import get_pair_parser, read_pair
from espnet_prune.cli import errors as cli
from espnet_prune.evaluate.metrics import count_errors, error_rate
from espnet_prune.evaluate.report import metric, write_scores


def run(args: argparse.Namespace) -> None:
    references, hypotheses, missing = read_pair(args.ref, args.hyp, "its phones count as deleted")
    result = error_rate(count_errors(references, hypotheses))
    write_scores(
        args.output_dir,
        {"per": metric(result.rate, result)},
        errors=result.errors,
        reference_length=result.reference_length,
        utterances=len(references),
        missing=missing,
    )


def get_parser() -> argparse.ArgumentParser:
    return get_pair_parser(__doc__)


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
