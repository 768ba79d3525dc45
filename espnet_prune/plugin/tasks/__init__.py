"""ESPnet tasks."""

from espnet_prune.plugin.startup import faster

faster()  # before the modules here import ESPnet's
