"""From a checkpoint file to a `SpeechEncoder`."""

from __future__ import annotations

from pathlib import Path

import torch

from espnet_prune.structured import SpeechEncoder, SpeechEncoderConfig
from espnet_prune.structured.checkpoints import dphubert, fairseq, torchaudio
from espnet_prune.structured.checkpoints.architecture import Contents
from espnet_prune.structured.checkpoints.reading import read_file
from espnet_prune.structured.encoder import check_keys
from espnet_prune.structured.families import FAMILIES
from espnet_prune.structured.tensor_files import DAMAGED, check_finite, first_line

#: Name of the format -> module with `matches(content)` and `convert(content)`. The first
#: that matches is taken: DPHuBERT's files are torchaudio's with more in their configuration.
FORMATS = {"fairseq": fairseq, "dphubert": dphubert, "torchaudio": torchaudio}


def import_checkpoint(path: str | Path) -> tuple[str, SpeechEncoder]:
    """Read a checkpoint of fairseq (also Microsoft's WavLM and s3prl's), torchaudio or DPHuBERT.

    Returns: the name of its format, and the encoder in evaluation mode.
    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, objects that are not opened, an unknown format or
            architecture, missing or misshapen tensors.
    """
    content = read_file(path)
    for name, module in FORMATS.items():
        if module.matches(content):
            try:
                return name, build(module.convert(content))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            except DAMAGED as error:  # its parts are of types that no such checkpoint has
                fault = f"{type(error).__name__}: {first_line(error)}"
                raise ValueError(f"{path}: damaged, no checkpoint of {name} ({fault})") from None
    raise ValueError(
        f"{path}: its format is not known: no wav2vec 2.0, HuBERT or WavLM of "
        f"{', '.join(FORMATS)} (a directory of `transformers` needs no import)"
    )


def build(contents: Contents) -> SpeechEncoder:
    """An encoder with the tensors and what is left of the base architecture.

    Raises:
        ValueError: missing, unknown or misshapen tensors.
    """
    family = FAMILIES[contents.family]
    base, normalize = family.base_config(contents.base), contents.do_normalize
    config = SpeechEncoderConfig(family.name, base, do_normalize=normalize)
    with torch.device("meta"):
        encoder = SpeechEncoder(config)
    if contents.masks:
        plan = encoder.plan()
        encoder = encoder.outline(plan.select(plan.canonical(contents.masks)))
    state = family.dense_state(contents.state)
    own = encoder.backbone.state_dict()
    check_keys(set(own) - set(state), set(state) - set(own))
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise ValueError(
                f"tensor {name} (`transformers`' name) is {tuple(value.shape)}, but has "
                f"to be {tuple(own[name].shape)}"
            )
        if not value.is_floating_point():
            raise ValueError(f"tensor {name} (`transformers`' name) is of {value.dtype}")
    state = {name: value.to(own[name].dtype).contiguous() for name, value in state.items()}
    check_finite(state, "its weights")
    encoder.backbone.load_state_dict(state, assign=True)
    return encoder.eval()
