"""Scorers: from the files of references and hypotheses to scores.json, and a table of it.

The measures themselves are in `espnet_prune.evaluate.metrics`. A file that is absent is a
FileNotFoundError. One that cannot be read, names what the reference does not have, or leaves
nothing to score is a ValueError, and so are options that do not go together.
"""
