"""What a backbone family declares about itself.

To add one, write a subclass with its declaration (see `wav2vec2.py`) and name it in `__init__.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


def states_of(
    model: Any, layers: Sequence[nn.Module], features: Tensor, mask: Any, watch: Watch | None
) -> tuple[list[Tensor], Tensor]:
    """`Family.forward` by a model of `transformers` that returns its hidden states.

    Args:
        layers: of the model.
        features, mask: as the model takes them.
    """
    if watch is None:
        out = model(features, attention_mask=mask, output_hidden_states=True)
        return list(out.hidden_states), out.last_hidden_state
    with watched(layers, watch):
        out = model(features, attention_mask=mask, output_hidden_states=False)
    return [], out.last_hidden_state


def strip(state: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Names without the first of `prefixes` that occurs; what does not start with it is dropped."""
    for prefix in prefixes:
        if any(name.startswith(prefix) for name in state):
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return dict(state)


#: largest number of Transformer layers, of any other size, and of units of all layers: some times
#: those of the largest models that there are
MOST_LAYERS, MOST_SIZE, MOST_UNITS = 200, 200_000, 3_000_000


class Family:
    """A `transformers` architecture and its declaration.

    Args:
        name: `model_type` of the architecture in `transformers`.
        config_class, model_class: the classes of `transformers`.
        prefixes: how parameter names start in checkpoints of models with heads on top.
        within: `model_type` of a larger model -> the entry of its configuration that is the
            encoder's own.

    Attributes:
        has_window: the model was trained on windows of one length, which `full_window` pads to.
        stock_sizes: kind of sites -> the entry of a configuration of `transformers` that is how
            many units each such site has left; none where its layout is never written.
        front: the modules between the waveform (or spectrogram) and the Transformer, as far as they
            are there.
    """

    sampling_rate = 16000
    has_window = False
    front: tuple[str, ...] = ()
    stock_sizes: Mapping[str, str] = {}
    #: entries of a configuration that are sizes: layers, width, heads, width inside, and all others
    size_names: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        config_class: Any,
        model_class: Any,
        *prefixes: str,
        within: Mapping[str, str] | None = None,
    ):
        self.name, self.prefixes, self.within = name, prefixes, dict(within or {})
        self.config_class, self.model_class = config_class, model_class

    def own_config(self, config: dict) -> dict:
        """The encoder's entries in the configuration of a checkpoint that may be of a larger model.

        Raises:
            ValueError: the larger model's configuration lacks them.
        """
        entry = self.within.get(str(config.get("model_type")))
        if entry is None:
            return config
        own = config.get(entry)
        if not isinstance(own, dict):
            raise ValueError(f"has no '{entry}', the configuration of its encoder")
        return own

    def base_config(self, config: dict) -> dict:
        """The part of a checkpoint's configuration that the encoder is built from."""
        raise NotImplementedError

    def build(self, config: dict) -> Backbone:
        """The dense model with this package's layers in place, weights as initialised."""
        raise NotImplementedError

    def build_checked(self, config: Any) -> Backbone:
        """`build`, after a look at what it would take.

        Raises:
            ValueError: the configuration does not describe a model, or one larger than any.
        """
        try:
            self._check_sizes(self.config_class(**config))
            # The attention is ours; `transformers` would fetch the code of one that is named here
            return self.build({k: v for k, v in config.items() if "_implementation" not in k})
        except ValueError:
            raise
        except Exception as error:  # `transformers` and its validation have their own, many
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"describes no {self.name} model: {reason}") from None

    def _check_sizes(self, cfg: Any) -> None:
        for name in self.size_names:
            value = getattr(cfg, name, 1)
            most = MOST_LAYERS if name == self.size_names[0] else MOST_SIZE
            values = value if isinstance(value, (list, tuple)) else (value,)
            if len(values) > MOST_LAYERS or not all(
                type(size) is int and 0 < size <= most for size in values
            ):
                raise ValueError(f"{name} is {value!r:.80}, but has to be from 1 to {most}")
        layers, width, heads, inside = (getattr(cfg, name) for name in self.size_names[:4])
        if width % heads:
            raise ValueError(f"{width} dimensions cannot be divided among {heads} heads")
        if layers * (2 * width + inside) > MOST_UNITS:
            raise ValueError(f"{layers} layers of {width} and {inside} dimensions: too large")

    def _prefix(self, names: Iterable[str]) -> str:
        names = list(names)
        return next((p for p in self.prefixes if any(n.startswith(p) for n in names)), "")

    def left_out(self, state: Iterable[str]) -> list[str]:
        """The parts of a checkpoint that `dense_state` drops, by the beginning of their names."""
        names = list(state)
        prefix = self._prefix(names)
        parts = set()
        for words in (name.split(".") for name in names if not name.startswith(prefix)):
            common = [a == b for a, b in zip(words, prefix.split("."), strict=False)]
            parts.add(".".join(words[: (common + [False]).index(False) + 1]))
        return sorted(parts)

    def without_encoder(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a checkpoint that do not belong to its encoder."""
        prefix = self._prefix(state)
        return {name: value for name, value in state.items() if not name.startswith(prefix)}

    def dense_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a `transformers` checkpoint under the names of `build`'s model."""
        return strip(state, *self.prefixes)

    def stock_config(self, config: dict, plan: Any) -> dict | None:
        """The configuration by which `transformers` builds a model of what a `Plan` has left; None
        where it has no such sizes."""
        return None

    def stock_state(self, state: dict[str, Tensor], config: dict) -> dict[str, Tensor]:
        """The inverse of `dense_state`, without a prefix, for a `stock_config`."""
        return dict(state)

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

    def samples_per_output(self, config: dict) -> int:
        """The same of the model's output, where that has frames of its own."""
        return self.samples_per_frame(config)

    def minimum_samples(self, config: dict) -> int:
        """The fewest samples that give one frame."""
        raise NotImplementedError

    def maximum_samples(self, config: dict) -> int | None:
        """The most samples that the model takes at once, None without a limit."""
        return None

    def wants_normalized_input(self, config: dict, preprocessor: dict | None = None) -> bool:
        """Whether a checkpoint expects waveforms of zero mean and unit variance.

        Args:
            preprocessor: the settings of its feature extractor, where there are any.
        Raises:
            ValueError: they ask for something else than `prepare` does.
        """
        given = {} if preprocessor is None else preprocessor
        for name, due in self.preparation(config).items():
            if given.get(name, due) != due:
                fault = f"{name} is {given[name]!r}, but {self.name} is supported with {due} only"
                raise ValueError(fault)
        found = given.get("do_normalize", self._normalizes(config, preprocessor is None))
        if not isinstance(found, bool):
            raise ValueError(f"do_normalize is {found!r}, but has to be true or false")
        return found

    def preparation(self, config: dict) -> dict[str, int]:
        """What the settings of a feature extractor have to be, as far as they say it."""
        return {"sampling_rate": self.sampling_rate}

    def _normalizes(self, config: dict, unknown: bool) -> bool:
        """What holds where the feature extractor does not say it, or is `unknown`."""
        return False

    def default_seconds(self, config: dict) -> float:
        """Length of audio for which costs are given unless asked otherwise: the window, or 10 s."""
        return (self.maximum_samples(config) or 0) / self.sampling_rate if self.has_window else 10.0
