"""Scorers: from the files of references and hypotheses to what scores.json holds.

The measures themselves are in `espnet_prune.evaluate.metrics`. A scorer returns the content of
scores.json, of which `espnet_prune.evaluate.report.write_scores` takes the entries.
"""
