"""The compact speech LLM that fits two CPU cores, and all that trains it."""
