"""ESPnet encoder `pruned_ssl`: a dense or pruned pretrained encoder, fine-tuned."""

from __future__ import annotations

import logging
import weakref

import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from espnet_prune.plugin.pretrained_encoder import PretrainedEncoder

# How the families call the convolutions between the waveform (or spectrogram) and the Transformer.
FEATURE_ENCODERS = ("feature_extractor", "conv1", "conv2")


class PrunedSSLEncoder(AbsEncoder):
    """From the waveform to the last hidden states, every weight trained.

    In an ESPnet YAML file:

        input_size: 1          # the waveform itself: ESPnet then builds no frontend
        frontend: null
        specaug: null
        normalize: null
        encoder: pruned_ssl
        encoder_conf:
            model: exp/slim/pruned          # dense or pruned: directory or hub name
            freeze_feature_encoder: true
            freeze_finetune_updates: 1000
            full_window: true               # Whisper only: pad each utterance to 30 s

    Dropout probabilities are those in the model's configuration. ESPnet builds the model from its
    config.yaml again for inference, and needs `model` there, too; the weights come from ESPnet's
    checkpoint.

    Args:
        input_size: 1, a waveform.
        freeze_feature_encoder: do not train the convolutions in front of the Transformer.
        freeze_finetune_updates: updates of the optimizer during which only what follows the
            encoder is trained. Multi-GPU training needs `unused_parameters: true` with it.
        full_window: as in `PrunedSSLFrontend`.
    Raises:
        FileNotFoundError: `model` is not there.
        ValueError: `model` is no model of a known family, or what comes in is no waveform.
    """

    def __init__(
        self,
        input_size: int,
        model: str,
        freeze_feature_encoder: bool = False,
        freeze_finetune_updates: int = 0,
        full_window: bool = True,
    ):
        super().__init__()
        if input_size != 1:
            raise ValueError(
                f"encoder pruned_ssl reads the waveform, but gets {input_size} features a frame: "
                "set frontend: null and input_size: 1"
            )
        self.pretrained = PretrainedEncoder(model, freeze=False, full_window=full_window)
        if freeze_feature_encoder:
            _freeze_feature_encoder(self.pretrained.encoder)
        self.freeze_finetune_updates = freeze_finetune_updates
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.long))
        if freeze_finetune_updates > 0:
            self._count_updates()

    def output_size(self) -> int:
        """Width D of the hidden states."""
        return self.pretrained.encoder.hidden_size

    def forward(
        self,
        xs_pad: Tensor,
        ilens: Tensor,
        prev_states: Tensor | None = None,
        ctc: torch.nn.Module | None = None,
        return_all_hs: bool = False,
    ) -> tuple[Tensor | tuple[Tensor, list[Tensor]], Tensor, None]:
        """
        Args:
            xs_pad: (B, T) or (B, T, 1) waveforms at 16 kHz.
            ilens: (B,) samples.
            return_all_hs: give the output of each layer, too, as speech translation asks for.
        Returns: last hidden states (B, T', D), or these and the list of all layers' outputs;
            their lengths (B,), of which T' is the largest; None.
        Raises:
            ValueError: an utterance is too short for one frame, or longer than Whisper's window.
        """
        wait = self.freeze_finetune_updates
        frozen = wait > 0 and int(self.num_updates) < wait
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            states, lengths = self.pretrained(xs_pad, ilens)
        return ((states[-1], states[1:]) if return_all_hs else states[-1]), lengths, None

    def reload_pretrained_parameters(self) -> None:
        """Put the pretrained weights back; ESPnet calls this after its --init."""
        self.pretrained.reload()

    def _count_updates(self) -> None:
        """Count the steps of the optimizer that holds our weights.

        A forward pass is not an update: ESPnet accumulates gradients over several (accum_grad),
        and mixed precision skips steps.
        """
        self_ref = weakref.ref(self)

        def after_step(optimizer, args, kwargs):
            encoder = self_ref()
            if encoder is not None and encoder._is_updated_by(optimizer):
                encoder.num_updates += 1
                if int(encoder.num_updates) == encoder.freeze_finetune_updates:
                    logging.info("pruned_ssl: the encoder is trained from here on")

        hook = register_optimizer_step_post_hook(after_step)
        weakref.finalize(self, hook.remove)

    def _is_updated_by(self, optimizer: torch.optim.Optimizer) -> bool:
        ours = {id(p) for p in self.pretrained.parameters()}
        return any(id(p) in ours for group in optimizer.param_groups for p in group["params"])


def _freeze_feature_encoder(encoder: torch.nn.Module) -> None:
    parts = [m for n, m in encoder.backbone.named_children() if n in FEATURE_ENCODERS]
    if not parts:
        raise ValueError(f"freeze_feature_encoder: not known for family '{encoder.family}'")
    for part in parts:
        part.requires_grad_(False)
        if hasattr(part, "_requires_grad"):
            # wav2vec 2.0 asks for gradients of its input, too, and so would run through the part.
            part._requires_grad = False
