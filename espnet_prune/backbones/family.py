"""What a backbone family has to say about itself."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from espnet_prune.backbones.declaration import Declaration


class HiddenStates(NamedTuple):
    """What `Family.forward` returns.

    Attributes:
        states: one (B, T', D) for the input of the first layer and one for the output of each.
        last: (B, T', D) the output of the model, after its final norm.
        lengths: (B,) frames.
    """

    states: list[Tensor]
    last: Tensor
    lengths: Tensor


class Family:
    """A `transformers` architecture and its declaration.

    Args:
        name: `model_type` of the architecture in `transformers`.
        config_class, model_class: the classes of `transformers`.
        prefix: how parameter names start in checkpoints of models with heads on top.
    """

    sampling_rate = 16000

    def __init__(self, name: str, config_class: type, model_class: type, prefix: str):
        self.name = name
        self.config_class = config_class
        self.model_class = model_class
        self.prefix = prefix

    def base_config(self, config: dict) -> dict:
        """The part of a checkpoint's configuration that the encoder is built from."""
        raise NotImplementedError

    def build(self, config: dict) -> nn.Module:
        """The dense model with `espnet_prune.backbones.layers` in place, weights as initialised."""
        raise NotImplementedError

    def dense_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a `transformers` checkpoint under the names of `build`'s model."""
        if any(key.startswith(self.prefix) for key in state):
            start = len(self.prefix)
            return {k[start:]: v for k, v in state.items() if k.startswith(self.prefix)}
        return dict(state)

    def declare(self, config: dict, seconds: float) -> Declaration:
        """What can be pruned, with the costs for utterances of `seconds`."""
        raise NotImplementedError

    def forward(
        self,
        model: nn.Module,
        speech: Tensor,
        lengths: Tensor | None,
        full_window: bool,
        normalize: bool,
    ) -> HiddenStates:
        """Hidden states of 16 kHz waveforms (B, T) with `lengths` (B,) samples, None for all T.

        Args:
            full_window: pad to the window the model was trained on, where it has one.
            normalize: bring each utterance to zero mean and unit variance first.
        """
        raise NotImplementedError

    def frames(self, model: nn.Module, lengths: Tensor) -> Tensor:
        """(B,) number of frames of utterances of `lengths` samples."""
        raise NotImplementedError

    def minimum_samples(self, config: dict) -> int:
        """The fewest samples that give one frame."""
        raise NotImplementedError

    def maximum_samples(self, config: dict) -> int | None:
        """The most samples that the model takes at once, None without a limit."""
        return None

    def wants_normalized_input(self, config: dict) -> bool:
        """Whether a checkpoint without a preprocessor file expects normalised waveforms."""
        return False

    def hidden_size(self, config: dict) -> int:
        """Width of the hidden states."""
        return self.config_class(**config).hidden_size

    def num_layers(self, config: dict) -> int:
        """Number of Transformer layers of the base architecture."""
        return self.config_class(**config).num_hidden_layers

    def default_seconds(self, config: dict) -> float:
        """Length of audio for which costs are given unless asked otherwise."""
        return 10.0
