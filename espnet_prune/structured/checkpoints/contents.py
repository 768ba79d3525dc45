"""What every format turns a file into."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Contents:
    """A checkpoint in the terms of this project.

    Attributes:
        family: key of `espnet_prune.structured.families.FAMILIES`.
        base: `transformers` configuration of the base architecture.
        state: tensors under `transformers`' names, with the shapes that are left.
        do_normalize: the model takes waveforms of zero mean and unit variance.
        masks: site -> (units,) of 0 and 1, what is left; sites that are absent are whole.
    """

    family: str
    base: dict
    state: dict[str, Tensor]
    do_normalize: bool
    masks: dict[str, Tensor] = field(default_factory=dict)
