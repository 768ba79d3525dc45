"""One clear line for an error that a user can mend, instead of a traceback."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

from espnet_prune.extras import MissingExtraError
from espnet_prune.hub.clients import trust_certificates


def run_or_exit(run: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> None:
    """Call `run`; errors that a user can mend become `error: ...` and exit status 1."""
    trust_certificates()
    try:
        run(args)
    except (OSError, ValueError, KeyError, MissingExtraError) as error:
        _stop(error.args[0] if isinstance(error, KeyError) else error)
    except RuntimeError as error:
        # torch.OutOfMemoryError, known by its name: not all commands need torch
        if type(error).__name__ != "OutOfMemoryError":
            raise
        _stop(f"the GPU's memory does not suffice: take smaller batches ({error})")


def run(
    main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, cmd=None
) -> None:
    """Parse `cmd` and call `main` in the same way, with its log on the terminal."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_or_exit(main, parser.parse_args(cmd))


def train(task, cmd=None) -> None:
    """Run an ESPnet task in the same way."""
    trust_certificates()
    try:
        task.main(cmd=cmd)
    except (OSError, ValueError, MissingExtraError) as error:
        logging.debug("", exc_info=True)
        _stop(error)


def _stop(text) -> None:
    *lines, last = str(text).split("\n")  # several faults, a line each, and what they come to
    print(*lines, f"error: {last}", sep="\n", file=sys.stderr)
    sys.exit(1)
