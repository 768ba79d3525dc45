"""What our tasks and their models share."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path

from espnet2.tasks.abs_task import AbsTask
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.train.distributed_utils import DistributedOption
from espnet2.utils.build_dataclass import build_dataclass
from torch import Tensor

from espnet_prune.files.lock import held
from espnet_prune.plugin.trainer import writes
from espnet_prune.structured.tensor_files import safe_torch_load

#: file in a directory of results that says which process writes there
LOCK = ".lock"


class Model(AbsESPnetModel):
    """A model without statistics of features to collect."""

    def collect_feats(self, **batch) -> dict[str, Tensor]:
        return {}


class Task(AbsTask):
    """A task whose model needs all `data_names`, padded with zeros to a batch."""

    data_names: tuple[str, ...] = ()

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """As ESPnet's, in an output directory of its own, and without unpickling of objects.

        Raises:
            ValueError: another process writes there, or an option would not do what it says.
        """
        # ESPnet divides by the first, ends well without an update, or climbs instead of descending
        for name in ("accum_grad", "max_epoch", "grad_clip"):
            value = getattr(args, name)
            if not value > 0:
                raise ValueError(f"{name} is {value}, but has to be above 0")
        option = build_dataclass(DistributedOption, args)
        option.init_options()
        lock: contextlib.AbstractContextManager = contextlib.nullcontext()
        if writes(option):
            lock = held(Path(args.output_dir) / LOCK, f"the experiment {args.output_dir}")
        with lock, safe_torch_load():
            super().main_worker(args)

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False):
        return cls.data_names

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False):
        return ()

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        return CommonCollateFn(float_pad_value=0.0, int_pad_value=0)

    @classmethod
    def model_conf(cls, args: argparse.Namespace) -> dict:
        """The keys of `model_conf` that are ours: arguments of the model."""
        read_by_abs_task = "extract_feats_in_collect_stats"
        return {key: v for key, v in args.model_conf.items() if key != read_by_abs_task}
