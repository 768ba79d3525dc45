"""ESPnet tasks."""

from espnet_prune.startup import faster

faster()  # before the modules here import ESPnet's
