"""To be dissolved into `espnet-prune encoder`."""

from __future__ import annotations

import argparse
import sys

from espnet_prune.plugin import training_config


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("model_name").add_argument("teacher")
    commands.add_parser("removed_share").add_argument("pruned")
    command = commands.add_parser("spread_updates")
    command.add_argument("source")
    command.add_argument("target")
    command.add_argument("--gpus", type=int, default=1)
    command.add_argument("--accum_grad", type=int)
    args = parser.parse_args(argv)
    try:
        if args.command == "model_name":
            print(training_config.model_name(args.teacher))
        elif args.command == "removed_share":
            print(f"{round(training_config.removed_share(args.pruned), 2):g}")
        else:
            training_config.write_spread(args.source, args.target, args.gpus, args.accum_grad)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
