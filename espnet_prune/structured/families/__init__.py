"""Backbone families: which sites of a model can be pruned, and how to read its hidden states.

To add a family, write one declaration (see `wav2vec2.py`) and name it here.
"""

from espnet_prune.structured.families.audio_tower import QWEN2_AUDIO, VOXTRAL
from espnet_prune.structured.families.data2vec import DATA2VEC
from espnet_prune.structured.families.declaration import COARSE, KINDS, Declaration, Scale, Site
from espnet_prune.structured.families.family import Family
from espnet_prune.structured.families.parakeet import PARAKEET
from espnet_prune.structured.families.sew import SEW
from espnet_prune.structured.families.wav2vec2 import (
    HUBERT,
    UNISPEECH,
    UNISPEECH_SAT,
    WAV2VEC2,
    WAVLM,
)
from espnet_prune.structured.families.wav2vec2_bert import WAV2VEC2_BERT
from espnet_prune.structured.families.wav2vec2_conformer import WAV2VEC2_CONFORMER
from espnet_prune.structured.families.whisper import WHISPER

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *(WAV2VEC2, HUBERT, WAVLM, UNISPEECH, UNISPEECH_SAT, DATA2VEC, SEW),
        *(WAV2VEC2_CONFORMER, WAV2VEC2_BERT, PARAKEET),
        *(WHISPER, QWEN2_AUDIO, VOXTRAL),
    )
}

__all__ = ["COARSE", "FAMILIES", "KINDS", "Declaration", "Family", "Scale", "Site"]
