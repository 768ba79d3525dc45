"""What a backbone family declares about itself.

To add one, write a subclass with its declaration (see `wav2vec2.py`) and name it in `__init__.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from espnet_prune.structured.families.declaration import Declaration


class ModelInput(NamedTuple):
    """What `Family.prepare` returns: the part of a forward pass that is computed without weights.

    Attributes:
        features: waveforms (B, T) or log-mel spectrograms (B, bins, T).
        mask: of what is no padding, None where nothing is padded; its shape is the family's own.
        lengths: (B,) frames of the hidden states.
    """

    features: Tensor
    mask: Tensor | None
    lengths: Tensor


#: A model that `Family.build` has made; only its family knows what attributes it has.
Backbone = Any

#: Takes the number of a hidden state, 0 for the input of the first layer, and the state.
Watch = Callable[[int, Tensor], None]


@contextmanager
def watched(layers: Sequence[nn.Module], watch: Watch) -> Iterator[None]:
    """While active, the input of the first of `layers` and the output of each go to `watch`."""

    def after(number: int, module: nn.Module, args: tuple, output: Any) -> None:
        watch(number, output[0] if isinstance(output, tuple) else output)

    handles = [layers[0].register_forward_pre_hook(lambda _, args: watch(0, args[0]))]
    handles += [layer.register_forward_hook(partial(after, n)) for n, layer in enumerate(layers, 1)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def strip(state: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Names without the first of `prefixes` that occurs; what does not start with it is dropped."""
    for prefix in prefixes:
        if any(name.startswith(prefix) for name in state):
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return dict(state)


class Family:
    """A `transformers` architecture and its declaration.

    Args:
        name: `model_type` of the architecture in `transformers`.
        config_class, model_class: the classes of `transformers`.
        prefixes: how parameter names start in checkpoints of models with heads on top.

    Attributes:
        has_window: the model was trained on windows of one length, which `full_window` pads to, and
            its own decoder listens to the silence that fills them.
    """

    sampling_rate = 16000
    has_window = False

    def __init__(self, name: str, config_class: Any, model_class: Any, *prefixes: str):
        self.name, self.prefixes = name, prefixes
        self.config_class, self.model_class = config_class, model_class

    def base_config(self, config: dict) -> dict:
        """The part of a checkpoint's configuration that the encoder is built from."""
        raise NotImplementedError

    def build(self, config: dict) -> Backbone:
        """The dense model with this package's layers in place, weights as initialised."""
        raise NotImplementedError

    def dense_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a `transformers` checkpoint under the names of `build`'s model."""
        return strip(state, *self.prefixes)

    def declare(self, config: dict, seconds: float) -> Declaration:
        """What can be pruned, with the costs for utterances of `seconds`."""
        raise NotImplementedError

    def prepare(
        self, model: Backbone, speech: Tensor, lengths: Tensor | None, full_window: bool
    ) -> ModelInput:
        """Bring 16 kHz waveforms (B, T) with `lengths` (B,) samples, None for all T, into shape.

        The answer holds for every model of the same base architecture, pruned or not.

        Args:
            full_window: pad to the window the model was trained on, where it has one.
        """
        raise NotImplementedError

    def forward(
        self, model: Backbone, inputs: ModelInput, watch: Watch | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Hidden states of what `prepare` returned, and the output after the final norm.

        Args:
            watch: is shown every hidden state as soon as it is there; none is kept then.
        Returns: (B, T', D) each: the input of the first layer and the output of every layer; the
            output of the model.
        """
        raise NotImplementedError

    def layers(self, model: Backbone) -> Sequence[nn.Module]:
        """The Transformer layers."""
        raise NotImplementedError

    def cnn_layers(self, model: Backbone) -> Sequence[nn.Module]:
        """The layers of the CNN in front, where they are modules of their own."""
        return ()

    def frames(self, model: Backbone, lengths: Tensor) -> Tensor:
        """(B,) number of frames of utterances of `lengths` samples."""
        raise NotImplementedError

    def samples_per_frame(self, config: dict) -> int:
        """From the beginning of a frame to that of the next."""
        raise NotImplementedError

    def minimum_samples(self, config: dict) -> int:
        """The fewest samples that give one frame."""
        raise NotImplementedError

    def maximum_samples(self, config: dict) -> int | None:
        """The most samples that the model takes at once, None without a limit."""
        return None

    def wants_normalized_input(self, config: dict, preprocessor: dict | None = None) -> bool:
        """Whether a checkpoint expects waveforms of zero mean and unit variance.

        Args:
            preprocessor: its preprocessor_config.json, where there is one.
        """
        return False

    def default_seconds(self, config: dict) -> float:
        """Length of audio for which costs are given unless asked otherwise: the window, or 10 s."""
        return (self.maximum_samples(config) or 0) / self.sampling_rate if self.has_window else 10.0
