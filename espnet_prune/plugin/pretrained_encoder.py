"""What the frontend and the encoder share: a pretrained encoder inside an ESPnet model."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from espnet_prune.structured import load_encoder


class PretrainedEncoder(torch.nn.Module):
    """A dense or pruned encoder whose weights survive what ESPnet does to a model.

    Its structure comes from `model`, whenever the ESPnet model is built, so for inference, too.
    Its weights are in ESPnet's checkpoints, frozen or not, and those are the ones that are used.

    Args:
        model: directory or hub name, see `espnet_prune.structured.load_encoder`.
        freeze: no gradients for the weights, and evaluation mode whatever ESPnet sets.
        full_window: Whisper only: pad to its 30 s window, else to the longest of the batch.
    Raises:
        FileNotFoundError, ValueError: as `load_encoder`.
    """

    def __init__(self, model: str, freeze: bool, full_window: bool):
        super().__init__()
        self.model = model
        self.freeze = freeze
        self.full_window = full_window
        try:
            self.encoder = load_encoder(model)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"pruned_ssl, key 'model': {error}") from None
        if freeze:
            self.encoder.requires_grad_(False)
        self.train(not freeze)
        # The last child: ESPnet's --init visits the modules in this order.
        self.after_init = _AfterInitialize(self.reload)

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """
        Args:
            speech: (B, T) or (B, T, 1) waveforms at 16 kHz.
            lengths: (B,) samples.
        Returns: states (B, T', D) of all layers and frames (B,), see `SpeechEncoderOutput`.
        Raises:
            ValueError: not single-channel; too short for one frame, or longer than the window.
        """
        if speech.dim() == 3 and speech.shape[2] == 1:
            speech = speech.squeeze(2)
        if speech.dim() != 2:
            shape = tuple(speech.shape)
            raise ValueError(f"pruned_ssl reads single-channel waveforms (B, T), got {shape}")
        lengths = lengths.to(device=speech.device, dtype=torch.long)
        # A frozen encoder behind a trainable enhancement still has to pass gradients on.
        gradients = not self.freeze or speech.requires_grad
        with torch.set_grad_enabled(gradients and torch.is_grad_enabled()):
            return self.encoder(speech, lengths, full_window=self.full_window).features()

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """Set training mode; a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.freeze)

    def reload(self) -> None:
        """Read the weights from `model` again."""
        self.encoder.load_state_dict(load_encoder(self.model).state_dict())
        logging.info(f"pruned_ssl: weights of {self.model} put back after --init")

    def _load_from_state_dict(self, state_dict, prefix, *args):
        # ESPnet loads with strict=False, which keeps quiet about a checkpoint that does not fit.
        super()._load_from_state_dict(state_dict, prefix, *args)
        given = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
        own = self.state_dict()
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        lacking = own.keys() - given.keys()
        if lacking and lacking == own.keys() - trained:
            # ESPnet's save_strategy adapter_only and required_grad_only leave them out.
            text = "pruned_ssl: no frozen weights in the checkpoint, those of %s are used"
            logging.warning(text, self.model)
            lacking = set()
        shapes = {
            f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own.keys() & given.keys()
            if given[name].shape != own[name].shape
        }
        for what, found in (
            ("lacks", lacking),
            ("has unknown", given.keys() - own.keys()),
            ("has misshapen", shapes),
        ):
            if found:
                found = sorted(found)
                more = f" and {len(found) - 3} more" if len(found) > 3 else ""
                raise ValueError(
                    f"the checkpoint does not fit pruned_ssl's 'model' {self.model}: it {what} "
                    f"{', '.join(found[:3])}{more}; 'model' must be what the training used"
                )


class _AfterInitialize(torch.nn.Module):
    """Undoes ESPnet's --init, which draws new weights for every module, pretrained or not.

    ESPnet calls `espnet_initialization_fn` of each module, and resets normalisation layers, in the
    order of `model.modules()`. `reload_pretrained_parameters` alone is not called for "chainer",
    nor in models that hold others (enh_s2t).
    """

    def __init__(self, restore: Callable[[], None]):
        super().__init__()
        self.espnet_initialization_fn = restore
