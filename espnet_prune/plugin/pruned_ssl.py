"""ESPnet frontend and encoder `pruned_ssl`: a dense or pruned encoder in the models of ESPnet.

ESPnet builds the model from its config.yaml again for inference. The weights come from ESPnet's
checkpoint, which holds them even when they are frozen; what to load them into stands in config.yaml
as `structure`, which training adds (`task_options`), so that `model` may be gone by then.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import humanfriendly
import torch
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from espnet_prune.structured import SpeechEncoder, load_encoder
from espnet_prune.structured.distill.state_cache import FeatureCache
from espnet_prune.structured.encoder import outline_of


class PretrainedEncoder(torch.nn.Module):
    """A dense or pruned encoder whose weights survive what ESPnet does to a model.

    Args:
        model: directory or hub name, see `espnet_prune.structured.load_encoder`.
        freeze: no gradients for the weights, and evaluation mode whatever ESPnet sets.
        full_window: Whisper only: pad to its 30 s window, else to the longest of the batch.
        structure: see `read_structure`; with it `model` is read only if no checkpoint has been
            loaded when the encoder is used.
    Raises:
        FileNotFoundError, ValueError: as `load_encoder`, or as `outline_of` with a structure.
    """

    def __init__(
        self, model: str, freeze: bool, full_window: bool, structure: Mapping | None = None
    ):
        super().__init__()
        self.model, self.freeze, self.full_window = model, freeze, full_window
        self.encoder: SpeechEncoder
        if structure is None:
            self.encoder = _read(model)
        else:
            self.encoder = outline_of(structure, "pruned_ssl, key 'structure'")
        self._has_weights = structure is None
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
        self.complete()
        # A frozen encoder behind a trainable enhancement still has to pass gradients on.
        gradients = not self.freeze or speech.requires_grad
        with torch.set_grad_enabled(gradients and torch.is_grad_enabled()):
            return self.encoder(speech, lengths, full_window=self.full_window).features()

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """Set training mode; a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.freeze)

    def complete(self) -> None:
        """Read the weights from `model` where no checkpoint has brought any."""
        if not self._has_weights:
            if all(bool(weights.isnan().all()) for weights in self.encoder.parameters()):
                self.reload()
            self._has_weights = True

    def reload(self) -> None:
        """Read the weights from `model` again."""
        state, own = _read(self.model).state_dict(), self.encoder.state_dict()
        if {n: v.shape for n, v in state.items()} != {n: v.shape for n, v in own.items()}:
            raise ValueError(
                f"pruned_ssl, key 'structure': is not that of 'model', {self.model}; remove the key"
            )
        self.encoder.load_state_dict(state)
        logging.info(f"pruned_ssl: weights read from {self.model}")

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
            self.complete()
            lacking = set()
        misshapen = {
            f"{name} {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
            for name in own.keys() & given.keys()
            if given[name].shape != own[name].shape
        }
        faults = {"lacks": lacking, "has unknown": given.keys() - own.keys()}
        for what, names in {**faults, "has misshapen": misshapen}.items():
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                raise ValueError(
                    f"the checkpoint does not fit pruned_ssl's 'model' {self.model}: it {what} "
                    f"{', '.join(sorted(names)[:3])}{more}; 'model' must be what the training used"
                )


def _read(model: str) -> SpeechEncoder:
    try:
        return load_encoder(model)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"pruned_ssl, key 'model': {error}") from None


class _AfterInitialize(torch.nn.Module):
    """Undoes ESPnet's --init, which draws new weights for every module, pretrained or not.

    ESPnet calls `espnet_initialization_fn` of each module, and resets normalisation layers, in the
    order of `model.modules()`. `reload_pretrained_parameters` alone is not called for "chainer",
    nor in models that hold others (enh_s2t).
    """

    def __init__(self, restore: Callable[[], None]):
        super().__init__()
        self.espnet_initialization_fn = restore


class PrunedSSLFrontend(AbsFrontend):
    """Hidden states of one layer, or their learned weighted sum over all layers.

    The sum is SUPERB's, sum_i softmax(w)_i h_i with h_0 the first layer's input, the last h the
    model's output, and w trained from zero (S. Yang et al., "SUPERB: Speech processing universal
    performance benchmark", 2021), so it is the mean at first. The h are not normalised.

    In an ESPnet YAML file:

        frontend: pruned_ssl
        frontend_conf:
            model: exp/slim/pruned    # dense or pruned: directory or hub name
            layer: weighted           # or 0 (first layer's input) ... number of layers (output)
            freeze: true
            full_window: true         # Whisper only: pad each utterance to 30 s
            crop_seconds: 8           # train on a random part of longer utterances
            cache: exp/feature_cache  # keep hidden states on disk: faster from the second epoch on

    Args:
        fs: sampling rate of the speech, as ESPnet's recipes pass it ("16k").
        freeze: do not train the encoder, and keep it in evaluation mode. Multi-GPU training with
            false and a layer below the last needs ESPnet's `unused_parameters: true`.
        full_window: Whisper only: pad to its 30 s window as in its training, else to the longest
            utterance of the batch, which is faster.
        crop_seconds: another random part of longer utterances each time, in training only.
        cache: directory for the hidden states of every utterance (see `FeatureCache`), for a frozen
            encoder and utterances that are the same in each epoch.
        hop_length: samples per frame. ESPnet's diarisation recipes pass it; it is no choice.
        structure: what `model` is built from. Training writes it into config.yaml, and inference
            needs no `model` then; not to be given by hand.
    Raises:
        FileNotFoundError: `model` is not there.
        ValueError: `model` is no model of a known family, or another argument does not suit it.
    """

    def __init__(
        self,
        model: str,
        fs: int | str = 16000,
        layer: int | str = "weighted",
        freeze: bool = True,
        full_window: bool = True,
        crop_seconds: float | None = None,
        cache: str | None = None,
        hop_length: int | None = None,
        structure: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.pretrained = PretrainedEncoder(model, freeze, full_window, structure)
        encoder = self.pretrained.encoder
        self.hop_length = encoder.samples_per_frame
        _check_rate(fs, encoder.sampling_rate)
        if hop_length not in (None, self.hop_length):
            raise _wrong(f"hop_length: {hop_length}, but one frame is {self.hop_length} samples")
        if crop_seconds is not None and not 0 < crop_seconds < math.inf:
            raise _wrong(f"crop_seconds: {crop_seconds}, must be positive")
        self.crop = None if crop_seconds is None else round(crop_seconds * encoder.sampling_rate)
        if cache is not None and (not freeze or crop_seconds is not None):
            other = "crop_seconds" if freeze else "freeze: false"
            raise _wrong(f"cache and {other} exclude each other")
        self.cache_dir = cache
        self.cache: FeatureCache | None = None
        self.layer = _check_layer(layer, encoder.num_layers)
        if self.layer is None:
            self.layer_weights = torch.nn.Parameter(torch.zeros(encoder.num_layers + 1))

    def output_size(self) -> int:
        """Width D of the features."""
        return self.pretrained.encoder.hidden_size

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            input: (B, T) or (B, T, 1) waveforms; what lies beyond the lengths is ignored.
            input_lengths: (B,) samples.
        Returns: features (B, T', D) and their lengths (B,), of which T' is the largest.
        Raises:
            ValueError: an utterance is too short for one frame, or longer than Whisper's window.
        """
        if self.training and self.crop is not None:
            input, input_lengths = random_crop(input, input_lengths, self.crop)
        states, lengths = self._states(input, input_lengths)
        if self.layer is not None:
            return states[self.layer], lengths
        weights = torch.softmax(self.layer_weights, dim=0)
        return sum(w * h for w, h in zip(weights, states, strict=True)), lengths

    def _states(self, speech: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """States (B, T', D) of all layers, and frames (B,), from disk if they are there."""
        if self.cache_dir is None:
            return self.pretrained(speech, lengths)
        if self.cache is None:  # not before: weights of a checkpoint are loaded after building
            self.pretrained.complete()
            encoder, full_window = self.pretrained.encoder, self.pretrained.full_window
            self.cache = FeatureCache(self.cache_dir, encoder, full_window)
        return self.cache.features(speech.squeeze(2) if speech.dim() == 3 else speech, lengths)

    def reload_pretrained_parameters(self) -> None:
        """Put the pretrained weights back; ESPnet calls this after its --init."""
        self.pretrained.reload()


def random_crop(speech: Tensor, lengths: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """A random part of so many samples of each longer utterance; shorter ones stay whole.

    Args:
        speech: (B, T) or (B, T, 1) waveforms.
        lengths: (B,) samples.
    Returns: (B, T') waveforms with T' at most `samples`, zero in the padding, and their lengths.
    """
    parts = []
    for wave, length in zip(speech, lengths.tolist(), strict=True):
        places = max(length - samples, 0) + 1
        begin = int(torch.randint(places, ()))
        parts.append(wave[begin : min(begin + samples, length)])
    new = torch.tensor([len(part) for part in parts], device=lengths.device, dtype=lengths.dtype)
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), new


def _wrong(text: str) -> ValueError:
    return ValueError(f"frontend pruned_ssl: {text}")


def _check_rate(fs: int | str, sampling_rate: int) -> None:
    try:
        rate = humanfriendly.parse_size(fs) if isinstance(fs, str) else fs
    except humanfriendly.InvalidSize:
        raise _wrong(f"cannot read fs: {fs}, try 16k") from None
    if rate != sampling_rate:
        hint = "resample the data (recipes do with --fs 16k)"
        raise _wrong(f"fs: {fs}, but pretrained encoders hear {sampling_rate} Hz; {hint}")


def _check_layer(layer: int | str, num_layers: int) -> int | None:
    """The index, None for all."""
    if layer == "weighted":
        return None
    if isinstance(layer, int) and not isinstance(layer, bool) and 0 <= layer <= num_layers:
        return layer
    known = f"0 (input of the first layer) to {num_layers} (output of the last)"
    raise _wrong(f"layer: {layer}, choose 'weighted' or one of {known}")


class PrunedSSLEncoder(AbsEncoder):
    """From the waveform to the last hidden states, every weight trained.

    In an ESPnet YAML file:

        input_size: 1          # the waveform itself: ESPnet then builds no frontend
        frontend: null
        specaug: null
        normalize: null        # whatever a recipe's script says, see `task_options`
        encoder: pruned_ssl
        encoder_conf:
            model: exp/slim/pruned          # dense or pruned: directory or hub name
            freeze_feature_encoder: true
            freeze_finetune_updates: 1000
            full_window: true               # Whisper only: pad each utterance to 30 s

    Dropout probabilities are those in the model's configuration.

    Args:
        input_size: 1, a waveform.
        freeze_feature_encoder: do not train the convolutions in front of the Transformer.
        freeze_finetune_updates: updates of the optimizer during which only what follows the
            encoder is trained. Multi-GPU training needs `unused_parameters: true` with it.
        full_window, structure: as in `PrunedSSLFrontend`.
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
        structure: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if input_size != 1:
            raise ValueError(
                f"encoder pruned_ssl reads the waveform, but gets {input_size} features a frame: "
                "set frontend: null and input_size: 1"
            )
        self.pretrained = PretrainedEncoder(model, False, full_window, structure)
        if freeze_feature_encoder:
            _freeze_feature_encoder(self.pretrained.encoder)
        if type(freeze_finetune_updates) is not int or freeze_finetune_updates < 0:
            fault = f"is {freeze_finetune_updates!r}, but has to be a whole number from 0 on"
            raise ValueError(f"encoder pruned_ssl: freeze_finetune_updates {fault}")
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
        """As in `PrunedSSLFrontend`."""
        self.pretrained.reload()

    def _count_updates(self) -> None:
        """Count the steps of the optimizer that holds our weights.

        A forward pass is not an update: ESPnet accumulates gradients over several (accum_grad),
        and mixed precision skips steps.
        """
        self_ref = weakref.ref(self)

        def after_step(optimizer, args, kwargs):
            encoder = self_ref()
            if encoder is None:
                return
            ours = {id(p) for p in encoder.pretrained.parameters()}
            if any(id(p) in ours for group in optimizer.param_groups for p in group["params"]):
                encoder.num_updates += 1
                if int(encoder.num_updates) == encoder.freeze_finetune_updates:
                    logging.info("pruned_ssl: the encoder is trained from here on")

        hook = register_optimizer_step_post_hook(after_step)
        weakref.finalize(self, hook.remove)


def _freeze_feature_encoder(encoder: torch.nn.Module) -> None:
    parts = [m for n, m in encoder.backbone.named_children() if n in encoder.family_of.front]
    if not parts:
        raise ValueError(f"freeze_feature_encoder: not known for family '{encoder.family}'")
    for part in parts:
        part.requires_grad_(False)
        if hasattr(part, "_requires_grad"):
            # wav2vec 2.0 asks for gradients of its input, too, and so would run through the part.
            part._requires_grad = False
