"""Speech Information Retrieval (arXiv 2412.12009): conditions, answers, evidence recall."""
