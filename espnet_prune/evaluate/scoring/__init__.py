"""Scorers: from the files of references and hypotheses to scores.json, and a table of it.

The measures themselves are in `espnet_prune.evaluate.metrics`.
"""
