"""Prune-and-distil, and distillation after slimming, as one module that gives the loss."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from espnet_prune.structured import Cost, GatedEncoder, LatencyTable, SpeechEncoder
from espnet_prune.structured.distill.checkpointing import checkpointed
from espnet_prune.structured.distill.decoder import Decoder
from espnet_prune.structured.distill.losses import DEFAULT, LOSSES, DistillationLoss
from espnet_prune.structured.distill.state_cache import TeacherCache
from espnet_prune.structured.distill.teacher import Teacher
from espnet_prune.structured.families.family import ModelInput
from espnet_prune.structured.heads import Predictor
from espnet_prune.structured.layout import LAYOUTS
from espnet_prune.structured.sparsity_schedule import Lagrangian, ramped_target

#: weight of the divergence of a head's predictions, beside the losses of the states
HEAD_LOSS = 1.0
COSTS = ("parameters", "macs", "latency")


@dataclass
class PruningConf:
    """How to prune (`pruning_conf` in YAML).

    Attributes:
        target: share of the cost to remove, in [0, 1).
        cost: "parameters", "macs" or "latency" of the encoder.
        latency_table: file that `espnet-prune encoder latency` wrote, for the cost "latency".
        ramp_updates: updates over which the target ramps up from 0.
        protected: kinds or names of sites that stay whole.
        ste: straight-through estimator.
        init: initial log_alpha of all gates.
        gate_lr, multiplier_lr: learning rates of the gates and of the Lagrange multipliers.
        round_to: hard masks keep multiples of so many units, see `GatedEncoder`.
        layout: "free", "equal" or "stock", see `espnet_prune.structured.layout`.
        compensate: in one shot, see `prune_one_shot`.
        targets: smaller targets on the way; training keeps the weights of the update at which
            the expected sparsity first comes to each.
    """

    target: float = 0.5
    cost: str = "parameters"
    latency_table: str | None = None
    ramp_updates: int = 5000
    protected: list[str] = field(default_factory=list)
    ste: bool = True
    init: float = 3.0
    gate_lr: float = 0.02
    multiplier_lr: float = 0.02
    round_to: int = 1
    layout: str = "free"
    compensate: bool = True
    targets: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.protected, str):
            self.protected = [self.protected]
        if isinstance(self.targets, int | float):
            self.targets = [self.targets]
        for key in ("target", "ramp_updates", "init", "gate_lr", "multiplier_lr"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"pruning_conf.{key} is {value!r}, but has to be a number")
            if not math.isfinite(value):
                raise ValueError(f"pruning_conf.{key} is {value}, but has to be finite")
        for key in ("gate_lr", "multiplier_lr"):
            if getattr(self, key) <= 0:
                fault = f"is {getattr(self, key)}, but has to be above 0"
                raise ValueError(f"pruning_conf.{key} {fault}")
        if self.ramp_updates < 0:
            fault = f"is {self.ramp_updates}, but has to be 0 or more"
            raise ValueError(f"pruning_conf.ramp_updates {fault}")
        for key in ("ste", "compensate"):
            if not isinstance(getattr(self, key), bool):
                fault = f"is {getattr(self, key)!r}, but has to be true or false"
                raise ValueError(f"pruning_conf.{key} {fault}")
        if self.cost not in COSTS:
            raise ValueError(f"pruning_conf.cost is {self.cost!r}, choose from {', '.join(COSTS)}")
        if self.cost == "latency" and not self.latency_table:
            raise ValueError(
                "pruning_conf.latency_table: give the file of espnet-prune encoder latency"
            )
        if not 0.0 <= self.target < 1.0:
            raise ValueError(f"pruning_conf.target is {self.target}, but has to be in [0, 1)")
        if type(self.round_to) is not int or self.round_to < 1:
            raise ValueError(
                f"pruning_conf.round_to is {self.round_to!r}, but has to be a whole number above 0"
            )
        if self.layout not in LAYOUTS:
            text = f"is {self.layout!r}, choose from {', '.join(LAYOUTS)}"
            raise ValueError(f"pruning_conf.layout {text}")
        wrong = [t for t in self.targets if not (isinstance(t, float) and 0.0 < t < self.target)]
        if wrong:
            raise ValueError(
                f"pruning_conf.targets has {wrong[0]!r}, but has to be in (0, {self.target})"
            )

    @classmethod
    def from_dict(cls, conf: Mapping[str, Any]) -> PruningConf:
        """`pruning_conf` of a YAML file.

        Raises:
            ValueError: an unknown key, or a value that is not allowed.
        """
        if not isinstance(conf, Mapping):
            raise ValueError(f"pruning_conf is {conf!r}, but has to be a mapping")
        names = ", ".join(field.name for field in fields(cls))
        for key in conf:
            if key not in cls.__dataclass_fields__:
                raise ValueError(f"pruning_conf: unknown key '{key}', choose from {names}")
        return cls(**conf)

    def load_cost(self) -> Cost:
        """What `GatedEncoder` takes: the table of latencies is read from its file."""
        return LatencyTable.load(str(self.latency_table)) if self.cost == "latency" else self.cost


class DistillModel(nn.Module):
    """Distil a student from a frozen teacher; with `pruning`, learn gates at the same time.

        L = L_distill + lambda1 (s_hat - t) + lambda2 (s_hat - t)^2

    The teacher goes first, and of its hidden states only the compared ones are kept, until the
    student has come to the same layer. It is not a submodule, see `Teacher`. Of the student, what
    no loss depends on is frozen, such as the last layer where no loss compares its state.

    Args:
        teacher: dense encoder.
        student: encoder to train, dense or slimmed; its layers have the teacher's widths.
        pruning: None distils only.
        layers: numbers of the hidden states to compare; None takes all.
        losses: name in `LOSSES` -> weight.
        full_window: see `SpeechEncoder.prepare`; with it the silence that fills the window counts
            in the loss, too, since Whisper's decoder listens to it. A number is the share of the
            updates with full windows, which cost more.
        decoder_loss: weight of `Decoder.divergence`, see there.
        dropout: of the student; distillation wants the teacher's own function, hence 0.
        teacher_cache: directory to keep the teacher's hidden states in, see `TeacherCache`; for
            whole utterances that are seen again, not for random crops.
        teacher_dtype: "float32", "bfloat16" or "float16", see `Teacher`; None computes the teacher
            in the precision of the student.
        activation_checkpointing: of the student's CNN and Transformer layers only the inputs are
            kept in training; what is inside is computed a second time in the backward pass. Same
            losses and gradients for less memory and more time.
        seed: of the gates' initial noise.
        decoder: Whisper's, for `decoder_loss`.
        head: what follows the encoder, frozen: `HEAD_LOSS` times the divergence of its predictions
            is added to the loss.
    """

    def __init__(
        self,
        teacher: SpeechEncoder,
        student: SpeechEncoder,
        pruning: PruningConf | None = None,
        layers: Sequence[int] | None = None,
        losses: Mapping[str, float] | None = None,
        full_window: bool | float = True,
        decoder_loss: float = 0.0,
        dropout: float = 0.0,
        teacher_cache: str | None = None,
        teacher_dtype: str | None = None,
        activation_checkpointing: bool = False,
        seed: int = 0,
        decoder: Decoder | None = None,
        head: Predictor | None = None,
    ):
        super().__init__()
        kind = "of family '{0.family}' ({0.num_layers} layers, {0.hidden_size} wide)"
        own, its = kind.format(student), kind.format(teacher)
        if own != its:
            raise ValueError(f"the student is {own}, but its teacher {its}")
        last = teacher.num_layers
        self.layers = list(range(last + 1) if layers is None else layers)
        if not self.layers:
            raise ValueError("layers: is empty, give the hidden states to compare")
        for number in self.layers:
            if type(number) is not int or not 0 <= number <= last:
                raise ValueError(f"layers: there is no hidden state {number}, only 0 to {last}")
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers: a hidden state is given twice in {self.layers}")
        self.losses = dict(losses or DEFAULT)
        for name in self.losses:
            if name not in LOSSES:
                raise ValueError(f"losses: unknown loss '{name}', choose from {', '.join(LOSSES)}")
            _check_number(f"losses.{name}", self.losses[name], math.inf)
        _check_number("decoder_loss", decoder_loss, math.inf)
        _check_number("dropout", dropout, 1.0)
        self._teacher = Teacher(teacher, teacher_dtype)
        student.set_dropout(dropout)
        if head is not None and teacher_cache:
            raise ValueError("teacher_cache: keeps no output for the head")
        self._head = head
        _freeze_unused(student, self.layers, bool(decoder_loss) or head is not None)
        if not isinstance(full_window, bool | int | float):
            raise ValueError(
                f"full_window is {full_window!r}, but has to be true, false or a share"
            )
        self.full_window = float(full_window)
        if not 0.0 <= self.full_window <= 1.0:
            raise ValueError(f"full_window is {full_window}, but has to be in [0, 1]")
        if teacher_cache and self.full_window not in (0.0, 1.0):
            raise ValueError("teacher_cache: full_window has to be true or false with it")
        if decoder_loss and decoder is None:
            raise ValueError("decoder_loss: the teacher has no decoder")
        self.decoder_loss, self._decoder = decoder_loss, decoder if decoder_loss else None
        self._cache: TeacherCache | None = None
        if teacher_cache:
            self._cache = TeacherCache(teacher_cache, self._teacher, bool(full_window))
        inputs = [(e.config.base, e.config.do_normalize) for e in (student, teacher)]
        #: whether one preparation of the input serves both
        self._same_input = inputs[0] == inputs[1]
        self.activation_checkpointing = activation_checkpointing
        self.pruning = pruning
        self.student: SpeechEncoder | GatedEncoder = student
        if pruning is not None:
            keys = ("protected", "init", "ste", "round_to", "layout")
            options: dict[str, Any] = {key: getattr(pruning, key) for key in keys}
            gated = GatedEncoder(student, cost=pruning.load_cost(), seed=seed, **options)
            for target in (*pruning.targets, pruning.target):
                gated.plan.check_target(target, gated.cost)
            self.student = gated
            self.lagrangian = Lagrangian()
        #: optimiser updates made, in the checkpoint; whoever steps the optimiser counts them
        self.updates: Tensor
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        #: scalars of every forward pass in training since the trainer last took them
        self.history: list[dict[str, float]] = []
        #: the same of validation, each with its weight
        self.validation: list[dict[str, float]] = []
        #: what follows from the gates alone, and the state of the gates that it is of
        self._derived: tuple[tuple[int, ...], dict] = ((), {})

    @property
    def teacher(self) -> SpeechEncoder:
        """The frozen teacher."""
        return self._teacher.encoder

    @property
    def target(self) -> float:
        """The sparsity that is asked for at this update."""
        assert self.pruning is not None
        return ramped_target(self.pruning.target, int(self.updates), self.pruning.ramp_updates)

    @property
    def encoder(self) -> SpeechEncoder:
        """The student without its gates."""
        student = self.student
        return student.encoder if isinstance(student, GatedEncoder) else student

    @property
    def gated(self) -> GatedEncoder:
        """The student with its gates, where there is pruning."""
        assert isinstance(self.student, GatedEncoder)
        return self.student

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What `optimizer_groups` makes of the weights that are trained."""
        return optimizer_groups(self)

    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Loss, statistics and weight (number of frames that count) of a batch.

        Args:
            speech: (B, T) waveforms at 16 kHz.
            speech_lengths: (B,) samples.
            text: (B, L) tokens for the decoder, see `Decoder.divergence`.
        """
        window = self._wants_full_window()
        inputs = self.encoder.prepare(speech, speech_lengths, window)
        decoder = self._decoder
        if decoder is not None and text is None:
            raise ValueError("decoder_loss: the data has no `text`")
        final = set() if decoder is None else {self.teacher.num_layers}
        wanted = self._teacher_states(speech, speech_lengths, inputs, window, final)
        heard = wanted.get(self.teacher.num_layers)
        time = next(iter(wanted.values())).shape[1]
        wanted = {number: wanted[number] for number in self.layers}
        # where there is no mask, silence is listened to
        whole = window and self.teacher.family_of.has_window and inputs.mask is None
        last = torch.full_like(inputs.lengths, time) if whole else inputs.lengths
        frames = torch.arange(time, device=speech.device)[None] < last[:, None]
        losses = DistillationLoss(wanted, self.losses, frames)
        if self.pruning is None or self.training:
            with self._checkpointed():
                output = self.student(inputs, watch=losses)
        else:  # what slimming to the target of this moment would give
            masks = self._once("masks", lambda: self.gated.hard_masks(self.target))
            output = self.gated.masked_forward(masks, inputs, watch=losses)
        loss, stats = losses.total, {"distill": losses.total.detach(), **losses.parts}
        if decoder is not None:
            assert text is not None and heard is not None
            divergence = decoder.divergence(heard, output.last_hidden_state, text)
            loss = loss + self.decoder_loss * divergence
            stats["decoder"] = divergence.detach()
        if self._head is not None:
            states = self._teacher.output, output.last_hidden_state
            spoken = inputs.lengths * states[0].shape[1] // time  # SEW's output has more frames
            divergence = self._head.divergence(*states, spoken)
            loss = loss + HEAD_LOSS * divergence
            stats["head"] = divergence.detach()
        if self.pruning is not None:
            loss = loss + self._sparsity_terms(stats)
        stats["loss"] = loss.detach()
        row = {"update": int(self.updates), **{k: float(v) for k, v in stats.items()}}
        weight = frames.sum().float()  # so that processes average as one would
        if self.training:
            self.history.append(row)
        else:
            self.validation.append({**row, "weight": float(weight)})
        return loss, stats, weight

    def _wants_full_window(self) -> bool:
        """Of this update: in training the share of them, in validation all if any."""
        share = self.full_window
        return share * int(self.updates) % 1.0 < share if self.training else share > 0.0

    def _teacher_states(
        self,
        speech: Tensor,
        speech_lengths: Tensor,
        inputs: ModelInput,
        window: bool,
        more: Collection[int],
    ) -> dict[int, Tensor]:
        layers = sorted({*self.layers, *more})
        if self._cache is not None:
            return self._cache.padded(speech, speech_lengths, layers)[0]
        if not self._same_input:
            inputs = self.teacher.prepare(speech, speech_lengths, window)
        return self._teacher(inputs, layers)

    def _checkpointed(self) -> contextlib.AbstractContextManager:
        if not (self.activation_checkpointing and self.training and torch.is_grad_enabled()):
            return contextlib.nullcontext()
        family, backbone = self.encoder.family_of, self.encoder.backbone
        return checkpointed([*family.cnn_layers(backbone), *family.layers(backbone)])

    def _once(self, name: str, compute: Callable[[], Any]) -> Any:
        """`compute()`, again only when the gates have changed since: an update has many forward
        passes, a validation only one state of the gates, and counting takes up to a second."""
        versions = (alpha._version for alpha in self.gated.log_alphas().values())
        state = (int(self.updates), *versions)
        if self._derived[0] != state:
            self._derived = (state, {})
        known = self._derived[1]
        if name not in known:
            known[name] = compute()
        return known[name]

    def _sparsity_terms(self, stats: dict[str, Tensor]) -> Tensor:
        target, gated = self.target, self.gated
        expected = gated.expected_sparsity()
        exact = self._once("exact", lambda: gated.exact_sparsity(gated.hard_masks()))
        penalty = self.lagrangian(expected, target)
        stats.update(
            sparsity_target=torch.tensor(target),
            sparsity_expected=expected.detach(),
            sparsity_exact=torch.tensor(exact),
            lagrangian=penalty.detach(),
            lambda1=self.lagrangian.lambda1.detach().clone(),
            lambda2=self.lagrangian.lambda2.detach().clone(),
        )
        return penalty.to(self.lagrangian.lambda1)


def optimizer_groups(model: Any) -> list[dict[str, Any]]:
    """Groups for an optimiser: the weights, the gates, and the multipliers, which ascend.

    Args:
        model: with `encoder` and `pruning`, and with `gated` and `lagrangian` where there is any.
    """
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.encoder.parameters() if p.requires_grad]}
    ]
    if model.pruning is not None:
        gates, ascending = model.gated.gates.parameters(), model.lagrangian.parameters()
        rates = model.pruning.gate_lr, model.pruning.multiplier_lr
        groups += [{"params": list(gates), "lr": rates[0], "weight_decay": 0.0}]
        groups += [{"params": list(ascending), "lr": rates[1], "weight_decay": 0.0}]
        groups[-1]["maximize"] = True
    return groups


def _check_number(name: str, value: Any, below: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < below:
        raise ValueError(f"{name} is {value!r}, but has to be a number in [0, {below:g})")


def _freeze_unused(student: SpeechEncoder, compared: Collection[int], output: bool) -> None:
    """Freeze what no loss depends on, as a pass without any randomness finds it.

    That is what follows the last compared state, and what nothing is left to read of, e.g. the norm
    in front of an attention without heads. Of several processes each would wait for the others'
    gradients (DDP).

    Args:
        compared: numbers of the hidden states that are.
        output: whether the output is, too.
    """
    least = student.family_of.minimum_samples(student.config.base)
    noise = torch.randn(1, max(least, 4000), generator=torch.Generator().manual_seed(0))
    total = torch.zeros((), device=student.device)

    def watch(number: int, state: Tensor) -> None:
        nonlocal total
        if number in compared:
            total = total + state.float().sum()

    training, trained = student.training, [p for p in student.parameters() if p.requires_grad]
    if not trained:
        return
    with torch.enable_grad():
        last = student.eval()(noise.to(student.device), full_window=False, watch=watch)
        if output:
            total = total + last.last_hidden_state.float().sum()
        found = torch.autograd.grad(total, trained, allow_unused=True)
    student.train(training)
    for parameter, gradient in zip(trained, found, strict=True):
        parameter.requires_grad_(gradient is not None)
