"""The frozen encoder that a student is distilled from."""

from __future__ import annotations

import contextlib
from collections.abc import Container

import torch
from torch import Tensor, nn

from espnet_prune.structured import SpeechEncoder
from espnet_prune.structured.families.family import ModelInput

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Teacher:
    """Hidden states of a frozen encoder, without gradients and no more of them than are asked for.

    Not a `Module`: it stays in eval mode and out of checkpoints, optimisers and gradient
    synchronisation.

    Args:
        encoder: is frozen here; with a `dtype` below float32 its matrices and filters, too, are
            kept in that type from now on.
        dtype: of matrix products and convolutions, "float32", "bfloat16" or "float16"; what is
            summed over layers, norms and softmax stay in float32 (autocast). None leaves it to the
            caller's autocast.

    Attributes:
        output: (B, T', D) of the model at the last call, behind its final norm.

    Raises:
        ValueError: there is no such type.
    """

    output: Tensor

    def __init__(self, encoder: SpeechEncoder, dtype: str | None = None):
        if dtype is not None and dtype not in DTYPES:
            known = ", ".join(DTYPES)
            raise ValueError(f"teacher_dtype is '{dtype}', but has to be one of {known}")
        self.encoder, self.dtype = encoder.eval().requires_grad_(False), dtype
        if dtype is not None:
            for module in encoder.modules():
                if isinstance(module, nn.Linear | nn.Conv1d):
                    module.to(DTYPES[dtype])  # else autocast would do it anew in each pass

    @torch.no_grad()
    def __call__(self, inputs: ModelInput, layers: Container[int]) -> dict[int, Tensor]:
        """number of a hidden state -> (B, T', D), for the numbers in `layers`.

        Args:
            inputs: of `SpeechEncoder.prepare`, the teacher's own or of a model of the same base.
        """
        device = inputs.features.device
        if self.encoder.device != device:
            self.encoder.to(device)
        states: dict[int, Tensor] = {}

        def keep(number: int, state: Tensor) -> None:
            if number in layers:
                states[number] = state

        precision: contextlib.AbstractContextManager = contextlib.nullcontext()
        if self.dtype is not None:
            half = self.dtype != "float32"
            precision = torch.autocast(device.type, DTYPES[self.dtype] if half else None, half)
        with precision:
            self.output = self.encoder(inputs, watch=keep).last_hidden_state
        return states
