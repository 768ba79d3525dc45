"""ESPnet frontends."""

from espnet_prune.plugin.frontends.pruned_ssl import PrunedSSLFrontend

__all__ = ["PrunedSSLFrontend"]
