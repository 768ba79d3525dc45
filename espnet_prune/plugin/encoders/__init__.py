"""ESPnet encoders."""

from espnet_prune.plugin.encoders.pruned_ssl import PrunedSSLEncoder
from espnet_prune.plugin.encoders.token_pruning import TokenPruningEncoder, TokenPruningPooling

__all__ = ["PrunedSSLEncoder", "TokenPruningEncoder", "TokenPruningPooling"]
