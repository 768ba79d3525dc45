"""Pruned prompts for vLLM: what it is handed, its server's client, its engine in this process.

The audio encoder and the pruner run here, and vLLM runs the language model; only `engine` needs it.
"""
