"""Backbone families: which sites of a model can be pruned, and how to read its hidden states.

To add a family, write one declaration (see `wav2vec2.py`) and name it here.
"""

from espnet_prune.structured.families.declaration import COARSE, KINDS, Declaration, Scale, Site
from espnet_prune.structured.families.family import Family
from espnet_prune.structured.families.wav2vec2 import HUBERT, WAV2VEC2, WAVLM
from espnet_prune.structured.families.whisper import WHISPER

FAMILIES: dict[str, Family] = {f.name: f for f in (WAV2VEC2, HUBERT, WAVLM, WHISPER)}

__all__ = ["COARSE", "FAMILIES", "KINDS", "Declaration", "Family", "Scale", "Site"]
