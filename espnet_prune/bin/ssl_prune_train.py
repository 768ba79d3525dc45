"""Training entry of the ESPnet task `ssl_prune`: prune-and-distil, and distillation afterwards."""

from functools import partial

from espnet_prune.cli import errors
from espnet_prune.plugin.tasks.ssl_prune import SSLPruneTask

get_parser = SSLPruneTask.get_parser
main = partial(errors.train, SSLPruneTask)

if __name__ == "__main__":
    main()
