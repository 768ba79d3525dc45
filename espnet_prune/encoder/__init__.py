"""ESPnet encoders."""

from espnet_prune.encoder.pruned_ssl import PrunedSSLEncoder

__all__ = ["PrunedSSLEncoder"]
