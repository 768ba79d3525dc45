"""Imported, it has ESPnet know this package's plugins, e.g. to use a packed model.

    import espnet_prune.auto
    from espnet2.bin.asr_inference import Speech2Text

`espnet-prune plugins on` has every program of an environment do it.
"""

from espnet_prune.plugin.registry import register
from espnet_prune.plugin.startup import provide_editdistance

register()
provide_editdistance()
