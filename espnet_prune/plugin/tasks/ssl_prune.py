"""ESPnet task `ssl_prune`: structured pruning and distillation of a speech encoder."""

from __future__ import annotations

import argparse
import inspect
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.tasks.abs_task import optim_classes
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import float_or_none, str_or_none
from torch import Tensor

from espnet_prune.data.audio import check_speech
from espnet_prune.data.data_dir import hash_key
from espnet_prune.plugin.tasks import base
from espnet_prune.plugin.trainer import PruneTrainer
from espnet_prune.structured import SpeechEncoder, load_encoder
from espnet_prune.structured.distill import DistillModel, PruningConf
from espnet_prune.structured.distill.decoder import PADDING, Decoder, Transcript

Data = dict[str, np.ndarray]


def check_utterance(utt_id: str, data: Data) -> Data:
    """Refuse utterances that are empty or hold NaN or infinite samples, by name."""
    check_speech(data["speech"], SpeechEncoder.sampling_rate, utt_id)
    return data


@dataclass
class RandomCrop:
    """A preprocessor of ESPnet that cuts a part out of longer utterances.

    Its place follows from seed, epoch and name of the utterance alone: not from a generator's
    state, which depends on the number of loader workers and of processes.

    Args:
        before: preprocessor that gets the whole utterance first.
        samples: length of the part; shorter utterances stay whole.
        seed: of the places.
        epoch: current epoch, see `CroppingIterFactory`.
    """

    before: Callable[[str, Data], Data]
    samples: int
    seed: int = 0
    epoch: int = 0

    def __call__(self, utt_id: str, data: Data) -> Data:
        """`data` with (at most `samples`,) of its `speech` (T,)."""
        data = self.before(utt_id, data)
        speech = data["speech"]
        places = len(speech) - self.samples + 1
        if places <= 1:
            return data
        start = int(hash_key(f"{self.epoch}:{utt_id}", self.seed), 16) % places
        return {**data, "speech": speech[start : start + self.samples]}


class CroppingIterFactory(AbsIterFactory):
    """Tells a `RandomCrop` the epoch, then has another factory build the epoch's iterator.

    The iterator's workers start afterwards and take the epoch with them. The dataset of `factory`
    has `crop` as preprocessor.
    """

    def __init__(self, factory: AbsIterFactory, crop: RandomCrop):
        self.factory = factory
        self.crop = crop

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> Iterator:
        self.crop.epoch = epoch
        return self.factory.build_iter(epoch, shuffle)


class WithText:
    """As `check_utterance`, and the text as tokens of the teacher's decoder."""

    def __init__(self, teacher: str):
        self.transcript = Transcript(teacher)

    def __call__(self, utt_id: str, data: dict) -> dict[str, np.ndarray]:
        data = check_utterance(utt_id, data)
        return {**data, "text": np.array(self.transcript(data["text"]), dtype=np.int64)}


class ESPnetDistillModel(DistillModel, base.Model):
    """`DistillModel` as ESPnet's trainer wants it: loss, statistics and weight can be gathered over
    processes."""

    def forward(self, speech: Tensor, speech_lengths: Tensor, **kwargs):
        """As `DistillModel.forward`, but all of one dimension and on one device."""
        loss, stats, weight = super().forward(speech, speech_lengths, **kwargs)
        return force_gatherable((loss, stats, weight), loss.device)


class SSLPruneTask(base.Task):
    """Both phases: with `pruning_conf` gates are learned while distilling, without it a slimmed
    student is distilled. One optimiser with parameter groups (see `build_optimizers`)."""

    trainer = PruneTrainer
    data_names = ("speech",)

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser):
        add = parser.add_argument_group(description="Task related").add_argument
        text = "Directory or hub name of the dense encoder to distil from (required)"
        add("--teacher", type=str_or_none, help=text)
        add("--student", type=str_or_none, help="Encoder to train (default: the teacher itself)")
        keys = ", ".join(field.name for field in fields(PruningConf))
        text = f"Gates and sparsity control: {keys}. Without it there are no gates (second phase)"
        add("--pruning_conf", action=NestedDictAction, help=text)
        text = "Crop longer utterances in training to a random part, another one in each epoch"
        add("--crop_seconds", type=float_or_none, help=text)
        names = list(inspect.signature(DistillModel).parameters)[3:-2]
        text = f"Options of espnet_prune.structured.distill.DistillModel: {', '.join(names)}"
        add("--model_conf", action=NestedDictAction, default={}, help=text)

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool):
        if train and args.crop_seconds is not None:
            samples = int(args.crop_seconds * SpeechEncoder.sampling_rate)
            return RandomCrop(check_utterance, samples, args.seed)
        return WithText(args.teacher) if cls.reads_text(args) else check_utterance

    @classmethod
    def reads_text(cls, args: argparse.Namespace) -> bool:
        """Whether Whisper's decoder takes part."""
        return bool(args.model_conf.get("decoder_loss"))

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False):
        return ("text",)

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        return CommonCollateFn(float_pad_value=0.0, int_pad_value=PADDING)

    @classmethod
    def build_iter_factory(
        cls, args: argparse.Namespace, distributed_option, mode: str, kwargs: dict | None = None
    ) -> AbsIterFactory:
        factory = super().build_iter_factory(args, distributed_option, mode, kwargs)
        if mode != "train" or args.crop_seconds is None:
            return factory
        if args.iterator_type != "sequence":
            kind = args.iterator_type
            raise ValueError(f"crop_seconds: not with iterator_type '{kind}', only with sequence")
        return CroppingIterFactory(factory, factory.dataset.preprocess)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetDistillModel:
        if args.teacher is None:
            raise ValueError("teacher: give the directory or hub name of a dense encoder")
        # Configs of trainings before there was cropping are read here, too
        crop_seconds = getattr(args, "crop_seconds", None)
        if crop_seconds is not None and not 0 < crop_seconds < math.inf:
            raise ValueError(f"crop_seconds is {crop_seconds}, but has to be positive")
        conf = cls.model_conf(args)
        if crop_seconds is not None and conf.get("teacher_cache"):
            fault = "another crop in each epoch is never found in teacher_cache"
            raise ValueError(f"crop_seconds: {fault}")
        if crop_seconds is not None and cls.reads_text(args):
            raise ValueError("crop_seconds: a part has not the text that decoder_loss needs")
        encoders = load_encoder(args.teacher), load_encoder(args.student or args.teacher)
        least = encoders[0].family_of.minimum_samples(encoders[0].config.base)
        if crop_seconds is not None and crop_seconds * SpeechEncoder.sampling_rate < least:
            fault = f"has fewer than the {least} samples that {encoders[0].family} needs"
            raise ValueError(f"crop_seconds: {crop_seconds} s {fault}")
        given = args.pruning_conf
        pruning = None if given is None else PruningConf.from_dict(given)
        decoder = None
        if cls.reads_text(args):
            if encoders[0].family != "whisper":
                raise ValueError(f"decoder_loss: {args.teacher} is no Whisper, it has no decoder")
            decoder = Decoder(args.teacher)
        try:
            model = ESPnetDistillModel(*encoders, pruning, seed=args.seed, decoder=decoder, **conf)
        except TypeError as error:
            raise ValueError(f"model_conf: {error}") from None
        for line in describe(model):
            logging.info(line)
        return model

    @classmethod
    def build_optimizers(
        cls, args: argparse.Namespace, model: torch.nn.Module
    ) -> list[torch.optim.Optimizer]:
        """Groups: weights (`optim_conf.lr`), gates (`gate_lr`), multipliers (`multiplier_lr`,
        ascending). A scheduler of ESPnet scales all of them. The update counter of the model
        follows the optimiser's steps."""
        for key, value in args.optim_conf.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"optim_conf.{key} is {value}, but has to be finite")
        try:
            optimizer = optim_classes[args.optim](model.parameter_groups(), **args.optim_conf)
        except (ValueError, TypeError) as error:
            raise ValueError(f"optim_conf: {error}") from None
        if model.pruning is not None and "maximize" not in optimizer.defaults:
            fault = "cannot ascend, as the Lagrange multipliers have to"
            raise ValueError(f"optim: '{args.optim}' {fault}; choose adamw, adam or sgd")

        def count(*_):
            model.updates += 1

        optimizer.register_step_post_hook(count)
        return [optimizer]


def describe(model: DistillModel) -> list[str]:
    """Lines for the log: what is trained and what can be pruned."""
    encoder = model.encoder
    plan = encoder.plan()
    lines = [
        f"Student: {encoder.family}, {plan.parameters() / 1e6:.3f} M parameters, "
        f"{plan.macs() / 1e9:.3f} G MACs per second of audio"
    ]
    if model.pruning is not None:
        counts = Counter[str]()
        for name in model.student.plan.prunable():
            counts[plan.sites[name].kind] += plan.size(name)
        units = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        lines.append(f"Gates: {units}; target {model.pruning.target:.1%} of {model.pruning.cost}")
        for kind, other in model.gated.plan.takes_along():
            lines.append(
                f"Protected {kind} still goes where its {other} goes: protect both to keep"
            )
    return lines
