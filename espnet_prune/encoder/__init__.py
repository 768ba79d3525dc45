"""ESPnet encoders."""

from espnet_prune.encoder.pruned_ssl import PrunedSSLEncoder
from espnet_prune.encoder.token_pruning import TokenPruningEncoder, TokenPruningPooling

__all__ = ["PrunedSSLEncoder", "TokenPruningEncoder", "TokenPruningPooling"]
