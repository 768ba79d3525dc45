"""Token pruning for speech language models, after SpeechPrune (arXiv 2412.12009). Pure torch."""

from espnet_prune.tokens.phases import first_phase, frame_budgets, second_phase
from espnet_prune.tokens.pruner import Outcome, TokenPruner
from espnet_prune.tokens.query_free import QUERY_FREE_SCORES, staying_frames, take_frames
from espnet_prune.tokens.scores import FirstLayer, attention_received, query_similarity
from espnet_prune.tokens.strategies import STRATEGIES

__all__ = [
    "QUERY_FREE_SCORES",
    "STRATEGIES",
    "FirstLayer",
    "Outcome",
    "TokenPruner",
    "attention_received",
    "first_phase",
    "frame_budgets",
    "query_similarity",
    "second_phase",
    "staying_frames",
    "take_frames",
]
