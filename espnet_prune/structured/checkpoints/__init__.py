"""Checkpoints of other toolkits as encoders: fairseq, torchaudio, DPHuBERT.

One file per format says how to recognise it and what it means. `architecture.py` is what they
share, `reading.py` opens files without running anything that is in them.
"""

from espnet_prune.structured.checkpoints.importing import FORMATS, import_checkpoint

__all__ = ["FORMATS", "import_checkpoint"]
