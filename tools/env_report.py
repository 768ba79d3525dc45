#!/usr/bin/env python3
"""Print versions, machine and commit as markdown, for a results table or a bug report.

usage: tools/venv/bin/python tools/env_report.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from espnet_prune.evaluate.environment import environment_report  # noqa: E402

if __name__ == "__main__":
    if sys.argv[1:]:
        print(__doc__.strip())
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    print(environment_report(), end="")
