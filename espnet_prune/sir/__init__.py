"""Speech Information Retrieval, the task of SPIRAL (arXiv 2412.12009): items and evidence."""

from espnet_prune.sir.evidence import Span, evidence_recall, token_span
from espnet_prune.sir.items import LETTERS, SirItem, read_items, shuffled, write_questions
from espnet_prune.sir.questions import Question, read_questions

__all__ = [
    "LETTERS",
    "Question",
    "SirItem",
    "Span",
    "evidence_recall",
    "read_items",
    "read_questions",
    "shuffled",
    "token_span",
    "write_questions",
]
