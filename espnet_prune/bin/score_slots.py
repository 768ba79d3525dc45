"""Slot-type F1 and slot-value CER of slot filling, with 95% confidence intervals.

A slot is marked as in 'play B-artist ella fitzgerald E-artist'. An utterance without hypothesis
counts as one without slots.
"""

from __future__ import annotations

import argparse
import logging

from espnet_prune.bin.score_output import get_pair_parser, read_pair
from espnet_prune.cli import errors as cli
from espnet_prune.evaluate.metrics import slot_type_f1, slot_value_cer
from espnet_prune.evaluate.report import metric, write_scores


def run(args: argparse.Namespace) -> None:
    references, hypotheses, missing = read_pair(args.ref, args.hyp, "it counts as without slots")
    cer = slot_value_cer(references, hypotheses)
    f1 = slot_type_f1(references, hypotheses)
    write_scores(
        args.output_dir,
        {"slot_type_f1": metric(f1.value, f1), "slot_value_cer": metric(cer.rate, cer)},
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
