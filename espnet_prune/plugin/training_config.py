"""Training configs: which size of config a teacher takes, and how updates spread over GPUs."""

from __future__ import annotations

import math
import re
from pathlib import Path

import yaml

from espnet_prune.files.reading import read_config, read_record
from espnet_prune.files.writing import write_text

#: families for which recipes have configs, a base and a large one
WITH_CONFIGS = ("wavlm", "hubert", "wav2vec2")
#: width of the hidden states -> size
SIZES = {768: "base", 1024: "large"}


def model_size(model: str) -> str:
    """The size of a teacher, `base` or `large`, after which configs are named.

    Args:
        model: hub name such as microsoft/wavlm-base-plus, or a dense or pruned model's directory.
    Raises:
        FileNotFoundError, ValueError: there is no config for this model.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        config = read_record(path / "config.json")
        family, base = config.get("model_type"), config
        if family == "espnet_prune":
            family, base = config.get("family"), config.get("base", {})
        width = base.get("hidden_size")
        size = SIZES.get(width) if family in WITH_CONFIGS else None
        what = f"no config for family '{family}' with hidden_size {width}"
    else:
        found = re.match(rf"(?:{'|'.join(WITH_CONFIGS)})-(base|large)\b", model.rpartition("/")[2])
        size = found and found[1]
        what = "no such directory, and no config for this hub name"
    if size is None:
        raise ValueError(
            f"teacher {model}: {what}, only for Base and Large of {', '.join(WITH_CONFIGS)}; "
            "give the options --prune_config, --distill_config and --asr_config"
        )
    return size


def spread_updates(config: dict, gpus: int, accum_grad: int | None = None) -> dict:
    """A config with which an update sees the same audio on several GPUs.

    ESPnet divides a batch of `batch_bins` among the GPUs and makes an update of `accum_grad` of
    them; `num_iters_per_epoch` counts batches, not updates. For one GPU with a passes an update
    (so `accum_grad: a`, `batch_bins: b`), a' passes on g GPUs have

        a' = max(1, ceil(a / g)),  b' = a b / a',

    and an epoch the same number of updates. Learning rates and the ramp of the target count
    updates, so they stay.

    Args:
        config: of an ESPnet training, for one GPU.
        gpus: number of GPUs g on all nodes.
        accum_grad: a' instead, for GPUs with less memory, or with more.
    Raises:
        ValueError: a number below 1, or a config without the keys.
    """
    for name, value in (("gpus", gpus), ("accum_grad", accum_grad)):
        if value is not None and value < 1:
            raise ValueError(f"--{name} is {value}, but has to be 1 or more")
    passes = config.get("accum_grad", 1)
    new = accum_grad or max(1, math.ceil(passes / gpus))
    if new == passes and gpus == 1:
        return dict(config)
    lacking = [key for key in ("batch_bins", "num_iters_per_epoch") if not config.get(key)]
    if lacking:
        raise ValueError(f"{lacking[0]}: missing, so updates cannot be spread over GPUs")
    number = config["num_iters_per_epoch"]
    if number % passes:
        raise ValueError(f"num_iters_per_epoch: {number} is no multiple of accum_grad, {passes}")
    bins, number = config["batch_bins"] * passes // new, number // passes * new
    return {**config, "batch_bins": bins, "accum_grad": new, "num_iters_per_epoch": number}


def write_spread(
    source: str | Path, target: str | Path, gpus: int, accum_grad: int | None = None
) -> None:
    """Write the config `source` with its updates spread (see `spread_updates`) to `target`.

    Raises:
        FileNotFoundError: no such config.
        ValueError: it is not a YAML mapping, is the target, too, or as `spread_updates`.
    """
    if Path(source).exists() and Path(target).exists() and Path(target).samefile(source):
        raise ValueError(f"{target}: is the config to read; name another file to write")
    config = read_config(source)
    try:
        config = spread_updates(config, gpus, accum_grad)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    # Not the number of GPUs: a run may go on with another one as long as the config is the same
    note = f"# {source}, updates spread over GPUs.\n"
    write_text(target, note + yaml.safe_dump(config, sort_keys=False))
