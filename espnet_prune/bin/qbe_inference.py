"""Query-by-example search with the hidden states of a speech encoder, layer by layer.

SUPERB's way, without training: subsequence dynamic time warping of each query on each document.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from espnet_prune.cli import errors as cli
from espnet_prune.cli.options import device_of, paths_by_name


def run(args: argparse.Namespace) -> None:
    from espnet_prune.evaluate.superb.qbe import write_search

    queries, device = paths_by_name("--queries", args.queries), device_of(args.ngpu)
    write_search(args.upstream, args.documents, queries, args.output_dir, device)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upstream", required=True, help="directory or hub name of the encoder")
    parser.add_argument("--documents", type=Path, required=True, help="formatted data directory")
    parser.add_argument(
        "--queries",
        nargs=2,
        action="append",
        required=True,
        metavar=("NAME", "DIR"),
        help="name of a set of queries and its formatted data directory, one for each pair",
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        required=True,
        help="directory for NAME/layerN.txt, 'query document score' lines; layer 0 is the input of "
        "the first layer",
    )
    parser.add_argument("--ngpu", type=int, default=0, help="0 (CPU) or 1")
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
