"""The speech encoder that everything outside this room sees: dense or pruned, of any family.

It is a `transformers` model: `save_pretrained`, `from_pretrained`, `push_to_hub` and, after
`import espnet_prune.structured`, `AutoModel.from_pretrained` work as users expect. The directory
holds `model.safetensors` and `config.json` (base architecture plus what is kept).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput, cached_file

from espnet_prune.files.model_config import check_model_config
from espnet_prune.files.reading import read_record
from espnet_prune.structured.families import FAMILIES, Declaration, Family, Site
from espnet_prune.structured.families.family import ModelInput, Watch
from espnet_prune.structured.plan import Kept, Plan
from espnet_prune.structured.restructure import restructure
from espnet_prune.structured.tensor_files import check_finite, first_line, load_tensors

#: bytes of a config.json at most; those of real models have some thousands
MOST_CONFIG = 2_000_000
#: entries of our config.json that say what an encoder is built from
STRUCTURE = ("family", "base", "kept", "do_normalize")
#: how the names of a head's tensors begin, see `heads`
HEAD = "head."
_RUN = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


def format_units(units: tuple[int, ...]) -> str:
    """(0, 1, 2, 5) -> "0-2,5"."""
    groups = groupby(enumerate(units), lambda place: place[1] - place[0])
    runs = [[unit for _, unit in group] for _, group in groups]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def parse_units(text: str) -> tuple[int, ...]:
    """The inverse of `format_units`."""
    units: list[int] = []
    for run in filter(None, text.split(",")):
        first, _, last = run.partition("-")
        units.extend(range(int(first), int(last or first) + 1))
    return tuple(units)


def read_kept(
    kept: Any, sites: Mapping[str, Site], family: str, where: str = "config.json"
) -> Kept:
    """What `SpeechEncoderConfig.kept` says is left, site -> kept units.

    Args:
        where: what an error names first.
    Raises:
        ValueError: an unknown site; units that are no runs ("0-2,5"), not there, not in ascending
            order or given twice; a site left with less than has to stay, or with units of a head
            or sub-layer that is gone.
    """
    if not isinstance(kept, dict):
        raise ValueError(f"{where}: 'kept' is {kept!r}, but has to map sites to units")
    units: Kept = {}
    for name, text in kept.items():
        if name not in sites:
            raise ValueError(f"{where}: 'kept': {family} has no site {name}")
        at, size = f"{where}: 'kept': {name}: {text!r:.80}", sites[name].size
        runs = [_RUN.fullmatch(run) for run in filter(None, str(text).split(","))]
        if not isinstance(text, str) or not all(runs):
            raise ValueError(f"{at} is no list of units such as '0-2,5'")
        ends = [int(end) for run in runs if run for end in (run[1], run[2] or run[1])]
        borders = list(zip(ends[1::2], ends[2::2], strict=False))
        if any(first > last for first, last in zip(ends[::2], ends[1::2], strict=True)) or any(
            last >= first for last, first in borders
        ):
            raise ValueError(f"{at}: units have to ascend, and to be given once")
        if ends and ends[-1] >= size:
            raise ValueError(f"{at}: there are only the units 0 to {size - 1}")
        units[name] = parse_units(text)
        if len(units[name]) < sites[name].at_least:
            raise ValueError(f"{at}: at least {sites[name].at_least} has to be left")
    for name, site in sites.items():
        own = units.get(name, range(site.size))
        for parent in site.parents:
            share = site.size // sites[parent].size
            held = {unit // share for unit in own}
            left = set(units.get(parent, range(sites[parent].size)))
            if not held <= left:
                gone = min(held - left)
                raise ValueError(
                    f"{where}: 'kept': {name} has units of unit {gone} of {parent}, which is "
                    "not kept"
                )
            if site.vital and parent == site.parents[0] and not left <= held:
                raise ValueError(
                    f"{where}: 'kept': {name} has no unit of unit {min(left - held)} of "
                    f"{parent}, which is kept"
                )
    return units


def zero_mean_unit_variance(speech: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Normalise (B, T) waveforms over their (B,) samples, as the feature extractors do; in float32
    whatever their type, for sums of half-precision squares underflow and counts overflow."""
    wave = speech.float()
    mask = torch.ones_like(wave)
    if lengths is not None:
        mask = torch.arange(wave.shape[1], device=wave.device)[None] < lengths[:, None]
    count = mask.sum(1, keepdim=True)
    mean = (wave * mask).sum(1, keepdim=True) / count
    variance = ((wave - mean).square() * mask).sum(1, keepdim=True) / count
    return ((wave - mean) / torch.sqrt(variance + 1e-7)).to(speech.dtype)


class SpeechEncoderConfig(PretrainedConfig):
    """Base architecture plus what is kept of it.

    Args:
        family: key of `espnet_prune.structured.families.FAMILIES`.
        base: `transformers` configuration of the base architecture.
        kept: site -> kept units as runs ("0-2,5"); sites that are absent are whole.
        do_normalize: bring waveforms to zero mean and unit variance first.
        head: class and configuration of what follows the encoder, see `heads.Head`.
    """

    model_type = "espnet_prune"

    def __init__(
        self,
        family: str = "",
        base: dict | None = None,
        kept: dict[str, str] | None = None,
        do_normalize: bool = False,
        head: dict | None = None,
        **kwargs: Any,
    ):
        self.family, self.do_normalize, self.head = family, do_normalize, head
        self.base, self.kept = base or {}, kept or {}
        check_model_config({**kwargs, "base": self.base, "head": head}, "config.json")
        if isinstance(head, dict) and isinstance(head.get("config"), dict):
            labels = head["config"].get("id2label")  # pipelines look for them here
            kwargs |= {"id2label": labels} if labels else {}
        super().__init__(**kwargs)

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples of a frame of the output, by which pipelines cut long audio."""
        return family_named(self.family).samples_per_output(self.base)


@dataclass
class SpeechEncoderOutput(ModelOutput):
    """Hidden states (B, T', D) of all layers, the first layer's input included; lengths (B,)."""

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    lengths: Tensor | None = None

    def features(self) -> tuple[list[Tensor], Tensor]:
        """What a probe sees, as in SUPERB: the inputs of all layers and the model's output.

        Of pre-norm models the last one has been through the final norm.

        Returns: states (B, T', D) with T' the longest of the frames (B,), which come second.
        """
        assert self.last_hidden_state is not None and self.lengths is not None
        assert self.hidden_states is not None
        last = _last_state(self.hidden_states[-1], self.last_hidden_state)
        frames = self.lengths.clamp(max=last.shape[1])
        states = [*self.hidden_states[:-1], last]
        return [state[:, : int(frames.max())] for state in states], frames


def _last_state(of_last_layer: Tensor, output: Tensor) -> Tensor:
    """What counts as the last hidden state: the output, behind the final norm of pre-norm models;
    the last layer's where the output has other frames (Qwen2-Audio, SEW)."""
    return output if output.shape[1] == of_last_layer.shape[1] else of_last_layer


class SpeechEncoder(PreTrainedModel):
    """A dense or pruned speech encoder: 16 kHz waveforms in, hidden states of all layers out."""

    config_class = SpeechEncoderConfig
    config: SpeechEncoderConfig
    base_model_prefix = ""
    main_input_name = "speech"
    _supports_sdpa = True
    _keys_to_ignore_on_load_unexpected = [rf"^{re.escape(HEAD)}"]

    sampling_rate = 16000

    def __init__(self, config: SpeechEncoderConfig):
        super().__init__(config)
        self.family_of = family_named(config.family)
        base = config.base
        if not isinstance(config.do_normalize, bool):
            fault = f"{config.do_normalize!r}, but has to be true or false"
            raise ValueError(f"config.json: 'do_normalize' is {fault}")
        self.backbone = self.family_of.build_checked(base)
        self._base_shapes = {n: tuple(p.shape) for n, p in self.backbone.named_parameters()}
        sizes = self.backbone.config
        self.hidden_size, self.num_layers = sizes.hidden_size, sizes.num_hidden_layers
        self.samples_per_frame = self.family_of.samples_per_frame(base)
        #: fewest and most samples; not computed in `forward`, where `torch.compile` cannot follow
        self._limits = (self.family_of.minimum_samples(base), self.family_of.maximum_samples(base))
        self._restructure()
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Backbones initialise themselves."""

    @property
    def family(self) -> str:
        """Name of the family, e.g. "whisper"."""
        return self.config.family

    @property
    def kept(self) -> Kept:
        """site -> kept units, for the sites that are not whole."""
        return dict(self._kept)

    def _declaration(self, seconds: float | None = None) -> Declaration:
        family, base = self.family_of, self.config.base
        return family.declare(base, seconds or family.default_seconds(base))

    def plan(self, seconds: float | None = None, protected: Iterable[str] = ()) -> Plan:
        """What can be pruned in this model as it is now.

        Args:
            seconds: length of the utterances that costs are given for; by default the family's
                `default_seconds`.
            protected: kinds or names of sites to leave whole.
        """
        return Plan(self._declaration(seconds), self._base_shapes, self.kept, protected)

    def _restructure(self) -> None:
        """Bring a freshly built dense backbone into the shapes of `config.kept`."""
        sites = self._declaration().sites
        self._kept = read_kept(self.config.kept, sites, self.family)
        plan = self.plan()
        if self._kept:
            restructure(self.backbone, plan)

    def outline(self, kept: Kept) -> SpeechEncoder:
        """A model of which `kept` is left, on the meta device: shapes without weights."""
        old, sites = self.config, self.plan().sites
        config = SpeechEncoderConfig(
            family=old.family,
            base=old.base,
            kept={n: format_units(u) for n, u in kept.items() if len(u) < sites[n].size},
            do_normalize=old.do_normalize,
        )
        with torch.device("meta"):
            return SpeechEncoder(config)

    def forward(
        self,
        speech: Tensor | ModelInput,
        speech_lengths: Tensor | None = None,
        full_window: bool = True,
        watch: Watch | None = None,
    ) -> SpeechEncoderOutput:
        """
        Args:
            speech, speech_lengths, full_window: as for `prepare`, or only what it has returned.
            watch: called with the number and the value of every hidden state as soon as it is
                there, the last as `SpeechEncoderOutput.features` has it; the output then has only
                the last.
        """
        inputs = speech
        if not isinstance(inputs, ModelInput):
            inputs = self.prepare(inputs, speech_lengths, full_window)
        if watch is None:
            states, last = self.family_of.forward(self.backbone, inputs)
            return SpeechEncoderOutput(last, tuple(states), inputs.lengths)
        of_last_layer: list[Tensor] = []

        def show(number: int, state: Tensor) -> None:
            if number < self.num_layers:
                watch(number, state)
            else:
                of_last_layer.append(state)

        _, last = self.family_of.forward(self.backbone, inputs, show)
        watch(self.num_layers, _last_state(of_last_layer[0], last))
        return SpeechEncoderOutput(last, None, inputs.lengths)

    def prepare(
        self, speech: Tensor, speech_lengths: Tensor | None = None, full_window: bool = True
    ) -> ModelInput:
        """The input of all encoders of the same base: normalised, padding masked, or log-mel.

        Args:
            speech: (B, T) waveforms at 16 kHz; samples beyond the lengths are ignored.
            speech_lengths: (B,) samples; all of T when absent.
            full_window: Whisper only: pad to its 30 s window (the hidden states then have 1500
                frames, `lengths` are those of the speech) instead of the longest of the batch.
        Raises:
            ValueError: an utterance is too short for one frame or longer than the window, or its
                samples are whole numbers.
        """
        if not speech.is_floating_point():
            advice = "give floating point numbers in [-1, 1] (16 bit numbers: divide by 32768)"
            raise ValueError(f"speech has samples of type {speech.dtype}; {advice}")
        if speech_lengths is None:  # nothing here depends on data then: `torch.export` can follow
            self._check_lengths(speech.shape[1], speech.shape[1])
        else:
            longest = int(speech_lengths.max())
            self._check_lengths(int(speech_lengths.min()), longest)
            speech, speech_lengths = speech[:, :longest], speech_lengths.to(speech.device)
        if self.config.do_normalize:
            speech = zero_mean_unit_variance(speech, speech_lengths)
        return self.family_of.prepare(self.backbone, speech, speech_lengths, full_window)

    def _check_lengths(self, shortest: int, longest: int) -> None:
        (least, most), fault = self._limits, ""
        if shortest < least:
            fault = f"{shortest} samples, but {self.family} needs at least {least}: remove it"
        if most is not None and longest > most:
            fault = f"{longest} samples, but {self.family} takes at most {most}: cut it first"
        if fault:
            raise ValueError(f"an utterance has {fault}")

    def set_dropout(self, p: float) -> None:
        """Set every dropout probability, e.g. 0 for distillation."""
        for module in self.backbone.modules():
            for name in ("dropout", "activation_dropout", "attention_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, p)
            if isinstance(module, torch.nn.Dropout):
                module.p = p

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *args: Any, **kwargs: Any) -> SpeechEncoder:
        """As in `transformers`, but a tensor that is missing, unknown or misshapen is an error."""
        kwargs.pop("output_loading_info", None)
        try:
            model, info = super().from_pretrained(
                name_or_path, *args, output_loading_info=True, **kwargs
            )
        except RuntimeError as error:  # `transformers` has logged which tensors are misshapen
            text = f"{name_or_path}: tensors do not fit the shapes of config.json: {error}"
            raise ValueError(text) from None
        except SafetensorError as error:
            raise ValueError(f"{name_or_path}: model.safetensors is damaged: {error}") from None
        check_keys(info["missing_keys"], info["unexpected_keys"], f"{name_or_path}: ")
        check_finite(model.state_dict(), str(name_or_path))
        model.config.head = None  # it is an encoder alone
        return model


AutoConfig.register(SpeechEncoderConfig.model_type, SpeechEncoderConfig, exist_ok=True)
AutoModel.register(SpeechEncoderConfig, SpeechEncoder, exist_ok=True)


def load_encoder(name_or_path: str | Path) -> SpeechEncoder:
    """Load a pruned encoder, or a dense model of a known family, from a directory or hub name.

    Its weights are float32, whatever they were stored in; what follows the encoder in the
    checkpoint is left out, and the log says so.

    Raises:
        FileNotFoundError: no such directory and no such name on the hub, or a file is missing.
        ValueError: not a model of a known family, weights that do not fit or are no finite numbers,
            or a preparation of the audio that the encoder does not have.

    >>> from tempfile import mkdtemp
    >>> from transformers import HubertConfig, HubertModel
    >>> folder = mkdtemp()  # or a hub name such as facebook/hubert-base-ls960
    >>> sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    >>> HubertModel(HubertConfig(num_hidden_layers=2, **sizes)).save_pretrained(folder)
    >>> encoder = load_encoder(folder)
    >>> [tuple(state.shape) for state in encoder(torch.randn(1, 16000)).hidden_states]
    [(1, 49, 16), (1, 49, 16), (1, 49, 16)]
    """
    name = str(name_or_path)
    found, config = _read_config(name)
    if config.get("model_type") == SpeechEncoderConfig.model_type:
        return _from_own(name, found, config)
    return _from_dense(name, found)


def read_structure(name_or_path: str | Path) -> dict[str, Any]:
    """What `load_encoder` builds an encoder from, without its weights: for `outline_of`.

    Raises:
        FileNotFoundError, ValueError: as `load_encoder`.
    """
    found, _ = _read_config(str(name_or_path))
    return {key: getattr(found, key) for key in STRUCTURE}


def outline_of(structure: Mapping[str, Any], where: str) -> SpeechEncoder:
    """An encoder of what `read_structure` gave, to load weights into: each parameter is NaN.

    Args:
        where: what an error names first.
    Raises:
        ValueError: an unknown key or family, or sizes that do not go together.
    """
    if not isinstance(structure, Mapping) or structure.keys() - set(STRUCTURE):
        raise ValueError(f"{where}: has to have the keys {', '.join(STRUCTURE)} and no others")
    if not isinstance(structure.get("base"), Mapping):
        raise ValueError(f"{where}: has no 'base', the configuration of the base architecture")
    family_named(structure.get("family"), where=where)
    encoder = _built(SpeechEncoderConfig(**structure), where)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.fill_(torch.nan)
    return encoder.eval()


def random_encoder(name_or_path: str | Path) -> SpeechEncoder:
    """The dense model of a configuration with random weights, e.g. to time it.

    Args:
        name_or_path: directory (weights need not be there), hub name, or file as config.json.
    Raises:
        FileNotFoundError: no such directory, file or name on the hub.
        ValueError: not a model of a known family.
    """
    name = str(name_or_path)
    config = read_record(name) if Path(name).is_file() else read_model_config(name)
    check_model_config(config, name)
    own = config.get("model_type") == SpeechEncoderConfig.model_type
    family = family_named(config.get("family" if own else "model_type"), where=name)
    base = config.get("base") if own else family.base_config(family.own_config(config))
    return SpeechEncoder(SpeechEncoderConfig(family=family.name, base=base)).eval()


def read_model_config(name: str, revision: str | None = None) -> dict:
    """`config.json` of a directory, or of a hub name and one of its commits.

    FileNotFoundError, ValueError: there is none, or it asks for what `check_model_config` refuses.
    """
    path = Path(name)
    no_hub_name = path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    if no_hub_name and not path.exists():
        raise FileNotFoundError(f"{name}: no such directory; give a model directory or a hub name")
    if path.exists() and not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path / 'config.json'}: missing; is {name} a model directory?")
    file = find_file(name, "config.json", revision)
    if file is None:
        raise FileNotFoundError(f"{name}: has no config.json")
    if Path(file).stat().st_size > MOST_CONFIG:
        raise ValueError(f"{file}: is too large for a configuration")
    config = read_record(file)
    check_model_config(config, file)
    return config


def _read_config(name: str) -> tuple[SpeechEncoderConfig, dict]:
    """What the encoder of a directory or hub name is built from, and its config.json."""
    config, where = read_model_config(name), f"{name}/config.json"
    kind = config.get("model_type")
    if kind != SpeechEncoderConfig.model_type:
        return _dense_config(name, family_named(kind, where=where), config), config
    family_named(config.get("family"), where=where)
    given = {key: config[key] for key in STRUCTURE if config.get(key) is not None}
    if not isinstance(given.get("base"), dict):
        raise ValueError(f"{where}: has no 'base', the configuration of the base architecture")
    return SpeechEncoderConfig(**given), config


def _dense_config(name: str, family: Family, config: dict) -> SpeechEncoderConfig:
    """That of a `transformers` model, with or without heads on top."""
    where = f"{name}/config.json"
    try:
        config = family.own_config(config)
        base = family.base_config(config)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    preparation, file = _preparation(name)
    try:
        normalize = family.wants_normalized_input(config, preparation)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return SpeechEncoderConfig(family.name, base, do_normalize=normalize)


def _from_own(name: str, found: SpeechEncoderConfig, config: dict) -> SpeechEncoder:
    """An encoder that this package has saved, dense or pruned."""
    outline = _outline(found, f"{name}/config.json")
    prefix = "backbone."
    state = {f"{prefix}{key}": value for key, value in outline.backbone.state_dict().items()}
    stored = read_state(name)
    if config.get("head") is not None:
        stored = {key: value for key, value in stored.items() if not key.startswith(HEAD)}
        logging.info(f"{name}: its encoder alone is taken, without its head")
    state = _fitting(stored, state, name)
    # Copies: what safetensors gives is the file itself, which may be replaced
    state = {key.removeprefix(prefix): value.clone() for key, value in state.items()}
    outline.backbone.load_state_dict(state, assign=True)
    return outline.eval()


def _from_dense(name: str, wrapped: SpeechEncoderConfig) -> SpeechEncoder:
    """Wrap a `transformers` model (with or without heads on top) as a dense `SpeechEncoder`."""
    where, family = f"{name}/config.json", family_named(wrapped.family)
    outline, state = _outline(wrapped, where), read_state(name)
    left_out = family.left_out(state)
    state = _fitting(family.dense_state(state), outline.backbone.state_dict(), name)
    encoder = _built(wrapped, where)
    encoder.backbone.load_state_dict(state)
    if left_out:
        logging.info(f"{name}: its encoder alone is taken, without {', '.join(left_out)}")
    return encoder.eval()


def _outline(config: SpeechEncoderConfig, where: str) -> SpeechEncoder:
    """The model of a configuration without memory for its weights (meta device)."""
    with torch.device("meta"):
        return _built(config, where)


def _built(config: SpeechEncoderConfig, where: str) -> SpeechEncoder:
    try:
        return SpeechEncoder(config)
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).removeprefix('config.json: ')}") from None


def _fitting(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], name: str
) -> dict[str, Tensor]:
    """Tensors in the types of those that are wanted.

    Raises:
        ValueError: missing, unknown or misshapen tensors, integers, or NaN or infinite values.
    """
    check_keys(set(wanted) - set(state), set(state) - set(wanted), f"{name}: ")
    for key, value in state.items():
        due = wanted[key]
        if value.shape != due.shape:
            shapes = f"{tuple(value.shape)} instead of {tuple(due.shape)}"
            text = f"tensor {key} is {shapes}: tensors do not fit the shapes of config.json"
            raise ValueError(f"{name}: {text}")
        if due.is_floating_point() and not value.is_floating_point():
            raise ValueError(
                f"{name}: tensor {key} is of {value.dtype}, not of floating-point numbers: "
                "quantised weights are not supported, give the model before quantisation"
            )
    found = {key: value.to(wanted[key].dtype) for key, value in state.items()}
    check_finite(found, name)
    return found


def find_file(name: str, file: str, revision: str | None = None) -> str | None:
    """A file of a directory or hub name, None where there is none.

    Raises:
        FileNotFoundError: no such model, or the hub does not give it; with the hub's reason.
    """
    try:
        return cached_file(
            name, file, revision=revision, _raise_exceptions_for_missing_entries=False
        )
    except OSError as error:
        reason = first_line(error.__cause__ or error)
        text = f"no such directory, and the model hub does not give {file}: {reason}"
        raise FileNotFoundError(f"{name}: {text}") from None


def _preparation(name: str) -> tuple[dict | None, str | None]:
    """How a checkpoint prepares audio, and the file that says so, as `transformers` finds it."""
    file = find_file(name, "processor_config.json")
    found = read_record(file).get("feature_extractor") if file else None
    if isinstance(found, dict):
        return found, file
    file = find_file(name, "preprocessor_config.json")
    return (read_record(file), file) if file else (None, None)


def read_state(name: str) -> dict[str, Tensor]:
    """All tensors of a checkpoint in `transformers`' layout, sharded or not.

    Raises:
        FileNotFoundError: no weights, or one of the files of sharded weights is missing.
        ValueError: a file is damaged, or holds anything else than tensors.
    """
    for file in ("model.safetensors", "pytorch_model.bin"):
        single = find_file(name, file)
        if single:
            return load_tensors(single)
        index = find_file(name, f"{file}.index.json")
        if index:
            return _read_shards(name, index)
    raise FileNotFoundError(f"{name}: has no model.safetensors")


def _read_shards(name: str, index: str) -> dict[str, Tensor]:
    files = read_record(index, ["weight_map"])["weight_map"]
    if not isinstance(files, dict) or not files:
        raise ValueError(f"{index}: 'weight_map' maps no tensors to files")
    state: dict[str, Tensor] = {}
    for shard in sorted({str(value) for value in files.values()}):
        if Path(shard).name != shard:
            raise ValueError(f"{index}: '{shard}' is no name of a file beside it")
        found = find_file(name, shard)
        if found is None:
            raise FileNotFoundError(
                f"{name}: {shard} is missing, of which {Path(index).name} says "
                "that it has a part of the weights"
            )
        state |= load_tensors(found)
    return state


def family_named(name: Any, where: str = "config") -> Family:
    """The family of a `model_type`, of the encoder's own or of a larger model's."""
    for family in FAMILIES.values():
        if isinstance(name, str) and name in (family.name, *family.within):
            return family
    known = ", ".join(FAMILIES)
    raise ValueError(f"{where}: model type '{name}' is not supported, choose from {known}")


def check_keys(missing: Iterable[str], unexpected: Iterable[str], prefix: str = "") -> None:
    """
    Raises:
        ValueError: the tensors of a file are not those of the model, by their names in it.
    """
    for what, keys in (("lacks", sorted(missing)), ("has unknown", sorted(unexpected))):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            names = f"{', '.join(keys[:3])}{more}"
            raise ValueError(f"{prefix}{what} tensors {names}: damaged, or of another architecture")
