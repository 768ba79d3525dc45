"""Training entry of the ESPnet task `ssl_prune`: prune-and-distil, and distillation afterwards."""

import logging
import sys

from espnet_prune.tasks.ssl_prune import SSLPruneTask


def get_parser():
    """The parser of the task, as in every `espnet2.bin`."""
    return SSLPruneTask.get_parser()


def main(cmd=None):
    """Structured pruning of a speech encoder.

    Example:
        % python -m espnet_prune.bin.ssl_prune_train --config conf/train_prune.yaml \\
              --teacher exp/teacher --output_dir exp/prune …
    """
    try:
        SSLPruneTask.main(cmd=cmd)
    except (OSError, ValueError) as error:
        logging.debug("", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
