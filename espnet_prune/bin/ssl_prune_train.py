"""Training entry of the ESPnet task `ssl_prune`: prune-and-distil, and distillation afterwards."""

from espnet_prune.cli import errors as cli
from espnet_prune.plugin.tasks.ssl_prune import SSLPruneTask


def get_parser():
    """The parser of the task, as in every `espnet2.bin`."""
    return SSLPruneTask.get_parser()


def main(cmd=None):
    """Structured pruning of a speech encoder.

    Example:
        % python -m espnet_prune.bin.ssl_prune_train --config conf/train_prune.yaml \\
              --teacher exp/teacher --output_dir exp/prune …
    """
    cli.train(SSLPruneTask, cmd)


if __name__ == "__main__":
    main()
