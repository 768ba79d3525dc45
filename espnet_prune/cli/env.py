"""`espnet-prune env`."""

from __future__ import annotations

from argparse import ArgumentParser


def env(parser: ArgumentParser):
    """Show versions, machine and commit as Markdown, for a table of results or a bug report."""

    def run(args):
        from espnet_prune.evaluate.environment import environment_report

        print(environment_report(), end="")

    return run


VERBS = {"": env}
