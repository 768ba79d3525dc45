"""ESPnet frontends."""

from espnet_prune.frontend.pruned_ssl import PrunedSSLFrontend

__all__ = ["PrunedSSLFrontend"]
