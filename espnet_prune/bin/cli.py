"""What the command lines share: one clear line for an error instead of a traceback."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable


def run(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, cmd=None):
    """Parse `cmd` and call `main`; errors that a user can mend become `error: …` and exit 1."""
    args = parser.parse_args(cmd)
    try:
        main(args)
    except (OSError, ValueError, KeyError) as error:
        text = error.args[0] if isinstance(error, KeyError) else error
        print(f"error: {text}", file=sys.stderr)
        sys.exit(1)
