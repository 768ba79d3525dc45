"""Measures with bootstrap confidence intervals, of arrays and texts in memory.

`espnet_prune.evaluate.scoring` reads the files.
"""
