"""`espnet-prune corpus`: data directories from a corpus, by the table data/corpora/corpora.yaml."""

from __future__ import annotations

import importlib
from argparse import ArgumentParser

from espnet_prune.files.reading import package_table

CORPORA = package_table("espnet_prune.data.corpora", "corpora.yaml")


def _verb(corpus: dict):
    def verb(parser: ArgumentParser):
        for name, arguments in corpus["options"].items():
            arguments = {"help": arguments} if isinstance(arguments, str) else dict(arguments)
            if arguments.get("type") == "int":
                arguments["type"] = int
            parser.add_argument(name, **arguments)

        def run(args):
            module, function = corpus["function"].split(".")
            module = importlib.import_module(f"espnet_prune.data.corpora.{module}")
            for name, number in getattr(module, function)(**vars(args)).items():
                print(f"{args.out_dir}/{name}: {number} {corpus.get('entries', 'utterances')}")

        return run

    verb.__doc__ = corpus["help"]
    return verb


VERBS = {name: _verb(corpus) for name, corpus in CORPORA.items()}
