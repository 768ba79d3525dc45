"""The system of ESPnet 3 whose recipes prune a speech encoder and recognise speech with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from espnet3.contract.stages import StageSpec
from espnet3.systems.esp2_asr.system import ASRSystem
from omegaconf import OmegaConf

from espnet_prune.api import prune
from espnet_prune.hub.pretrained import prepare
from espnet_prune.plugin import run as run  # registers the plugins, which `infer` needs, too
from espnet_prune.plugin.espnet3.distillation import distill
from espnet_prune.structured import load_encoder


class SSLPruneSystem(ASRSystem):
    """`ASRSystem` with three stages that make the encoder, after `create_dataset`:

        fetch_teacher   bring the dense encoder to a directory
        prune           prune it in one shot, see `espnet_prune.prune`
        distill         train what is left on the dense encoder's hidden states, see `distill`

    Each takes its arguments from the block of its name in the training config, and so do the stages
    of ASR, whose frontend the encoder is (`task: espnet_prune.plugin.espnet3.tasks.asr.ASRTask`).
    """

    stages: ClassVar[tuple[StageSpec, ...]] = (
        StageSpec(name="create_dataset", config="training", log_dir="data_dir"),
        StageSpec(name="fetch_teacher", config="training", log_dir="exp_dir"),
        StageSpec(name="prune", config="training", log_dir="exp_dir"),
        StageSpec(name="distill", config="training", log_dir="exp_dir"),
        *(stage for stage in ASRSystem.stages if stage.name != "create_dataset"),
    )

    def fetch_teacher(self, *args: Any, **kwargs: Any) -> None:
        """Bring `model`, a directory or a hub name, to `output_dir`."""
        self._reject_stage_args("fetch_teacher", args, kwargs)
        self._call("fetch_teacher", _fetch_teacher)

    def prune(self, *args: Any, **kwargs: Any) -> None:
        """Write a smaller encoder."""
        self._reject_stage_args("prune", args, kwargs)
        self._call("prune", prune)

    def distill(self, *args: Any, **kwargs: Any) -> None:
        """Train the smaller encoder, and write it."""
        self._reject_stage_args("distill", args, kwargs)
        self._call("distill", distill)

    def _call(self, stage: str, function: Callable) -> None:
        """Call the function of a stage with its block of the training config.

        Raises:
            ValueError: the block is missing, or has other keys than the function has arguments.
        """
        where, conf = f"training config, block '{stage}'", self.training_config.get(stage)
        if conf is None:
            raise ValueError(f"{where}: is missing")
        options = OmegaConf.to_container(conf, resolve=True)
        signature = inspect.signature(function)
        try:
            signature.bind(**options)
        except TypeError as error:
            known = ", ".join(signature.parameters)
            raise ValueError(f"{where}: {error}; it takes {known}") from None
        function(**options)


def _fetch_teacher(model: str, output_dir: str) -> None:
    prepare(model, Path(output_dir), load_encoder)
