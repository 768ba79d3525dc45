"""What our tasks and their models share."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from espnet2.tasks.abs_task import AbsTask
from espnet2.train.abs_espnet_model import AbsESPnetModel
from espnet2.train.collate_fn import CommonCollateFn
from torch import Tensor


class Model(AbsESPnetModel):
    """A model without statistics of features to collect."""

    def collect_feats(self, **batch) -> dict[str, Tensor]:
        return {}


class Task(AbsTask):
    """A task whose model needs all `data_names`, padded with zeros to a batch."""

    data_names: tuple[str, ...] = ()

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
