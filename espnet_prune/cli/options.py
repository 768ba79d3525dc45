"""Types and groups of options that several commands share."""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Callable
from pathlib import Path

#: keys of `espnet_prune.speech_llm.SPEECH_LLMS`, which takes seconds to import
SPEECH_LLMS = "qwen2_audio, diva, compact or audio_llm"


def true_or_false(value: str) -> bool:
    """A bool as recipes write it."""
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise argparse.ArgumentTypeError(f"'{value}' is neither true nor false")


def whole(least: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from `least` on."""

    def read(value: str) -> int:
        if value.strip().lstrip("+-").isdecimal() and least <= int(value) < 2**63:
            return int(value)
        raise argparse.ArgumentTypeError(f"'{value}' is no whole number from {least} on")

    return read


def above_zero(value: str) -> float:
    """A finite number above 0."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if 0 < number < math.inf:
        return number
    raise argparse.ArgumentTypeError(f"'{value}' is no number above 0")


def sampling_rate(value: str) -> int:
    """A sampling rate in Hz, also in ESPnet's way of writing it: 16000 or 16k."""
    try:
        return int(float(value[:-1]) * 1000) if value.endswith("k") else int(value)
    except ValueError:
        text = f"'{value}' is not a sampling rate such as 16000 or 16k"
        raise argparse.ArgumentTypeError(text) from None


def name_and_value(text: str) -> tuple[str, str]:
    """The parts of NAME=VALUE."""
    name, _, value = text.partition("=")
    if not (name and value):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value


def add_machine(
    parser: argparse.ArgumentParser, dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
) -> None:
    """Add --threads, --device and --dtype."""
    parser.add_argument("--threads", type=whole(1), help="CPU threads (default: torch's choice)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", choices=dtypes, default="float32")


def add_runner(parser: argparse.ArgumentParser) -> None:
    """Add the options that are fields of `launch.sweeps.Runner`."""
    add = parser.add_argument
    add("--nj", type=int, default=1, help="runs at a time, each with its share of the processors")
    add("--python", default="python3", help="command that starts Python")
    add("--debug", type=true_or_false, default=False, help="short runs, for testing")
    add("options", nargs="*", metavar="-- OPTION", help="further options of run.sh")


def device_of(ngpu: int) -> str:
    """The device of torch that ESPnet's option --ngpu asks for.

    Raises:
        ValueError: more than one GPU, or fewer than none.
    """
    if ngpu not in (0, 1):
        raise ValueError(f"--ngpu {ngpu}: give 0 or 1")
    return "cuda" if ngpu else "cpu"


def paths_by_name(option: str, pairs: list[list[str]]) -> dict[str, Path]:
    """The values of an option NAME FILE that is given once for each pair.

    Raises:
        ValueError: a name is there twice.
    """
    named = {name: Path(path) for name, path in pairs}
    if len(named) != len(pairs):
        raise ValueError(f"{option}: a name is there twice")
    return named


def calls(function: str) -> Callable[[argparse.Namespace], None]:
    """What runs a verb: `function`, "module.name" in the package, called with the options by name.

    The line that it returns, if any, is printed, or each of several as soon as it comes.
    """

    def run(args: argparse.Namespace) -> None:
        module, _, name = function.rpartition(".")
        found = getattr(importlib.import_module(f"espnet_prune.{module}"), name)(**vars(args))
        for line in [found] if isinstance(found, str) else found or ():
            print(line, flush=True)

    return run


class KeyValues(argparse.Action):
    """An option `--conf KEY=VALUE`, given once for each key, or with a YAML mapping of several."""

    def __call__(self, parser, namespace, values, option_string=None):
        import yaml

        key, equals, value = values.partition("=")
        try:
            if equals and not key.lstrip().startswith("{"):
                found = {key: yaml.safe_load(value) if value.strip() else value}
            else:
                found = yaml.safe_load(values)
        except (yaml.YAMLError, RecursionError) as error:
            raise argparse.ArgumentError(self, f"'{values}' is not YAML: {error}") from None
        if not isinstance(found, dict):
            raise argparse.ArgumentError(self, f"'{values}' is neither KEY=VALUE nor a mapping")
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), **found})


def fill_from_config(args: argparse.Namespace) -> None:
    """Fill in options that were not given (None) from the YAML file `args.config`, if there is one;
    the keys of mappings one by one.

    Raises:
        FileNotFoundError, ValueError: no such file, not YAML, or a key that is no option.
    """
    if args.config is None:
        return
    from espnet_prune.files.reading import read_config

    for name, value in read_config(args.config).items():
        if name not in vars(args):
            raise ValueError(f"{args.config}: unknown option '{name}'")
        given = getattr(args, name)
        if given is None:
            setattr(args, name, value)
        elif isinstance(given, dict) and isinstance(value, dict):
            setattr(args, name, {**value, **given})
