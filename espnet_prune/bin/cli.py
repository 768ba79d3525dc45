"""What the command lines share: one clear line for an error instead of a traceback."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable


def run(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, cmd=None):
    """Parse `cmd` and call `main`; errors that a user can mend become `error: …` and exit 1."""
    args = parser.parse_args(cmd)
    try:
        main(args)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        text = error.args[0] if isinstance(error, KeyError) else error
        if isinstance(error, RuntimeError):
            # torch.OutOfMemoryError, known by its name: not all commands need torch
            if type(error).__name__ != "OutOfMemoryError":
                raise
            text = f"the GPU's memory does not suffice: take smaller batches ({error})"
        print(f"error: {text}", file=sys.stderr)
        sys.exit(1)


def train(task, cmd=None) -> None:
    """Run an ESPnet task, the same way."""
    try:
        task.main(cmd=cmd)
    except (OSError, ValueError) as error:
        logging.debug("", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
