"""Query-by-example search with the hidden states of a speech encoder, layer by layer.

SUPERB's way, without training: subsequence dynamic time warping of each query on each document.
NAME/layerN.txt has 'query document score' lines; layer 0 is the input of the first layer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_prune.cli import errors as cli
from espnet_prune.cli.options import device_of, paths_by_name


def run(args: argparse.Namespace) -> None:
    from espnet_prune.evaluate.superb.qbe import write_search

    queries, device = paths_by_name("--queries", args.queries), device_of(args.ngpu)
    write_search(args.upstream, args.documents, queries, args.output_dir, device)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--upstream", required=True, help="directory or hub name of the encoder")
    add("--documents", type=Path, required=True, help="formatted data directory")
    pair = {"nargs": 2, "action": "append", "required": True, "metavar": ("NAME", "DIR")}
    add("--queries", help="name of a set of queries and its formatted data directory", **pair)
    add("--output_dir", type=Path, required=True, help="directory for NAME/layerN.txt")
    add("--ngpu", type=int, default=0, help="0 (CPU) or 1")
    return parser


def main(cmd: list[str] | None = None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
