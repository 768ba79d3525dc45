"""The one door through which encoder directories are written, and their summary is read.

`load_encoder` in `encoder.py` reads the encoder itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from espnet_prune.files.lock import held
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_json, write_text
from espnet_prune.structured.cost.latency import LatencyTable
from espnet_prune.structured.encoder import SpeechEncoder, SpeechEncoderConfig
from espnet_prune.structured.heads import PROCESSOR, Head, with_head
from espnet_prune.structured.plan import Cost
from espnet_prune.structured.tensor_files import check_finite, first_line

SUMMARY = "summary.json"
#: plot of what is left of each layer, for the `add` of `write_encoder`
PLOT = "kept.png"
#: model card, of an export
CARD = "README.md"
#: all that an encoder directory holds, the last of one with a head
FILES = ("config.json", "model.safetensors", SUMMARY, PLOT, CARD, *PROCESSOR)


def check_directory(output_dir: str | Path) -> None:
    """
    Raises:
        ValueError: there is something that is not ours: no directory, a file that is not of an
            encoder directory, or a model that this package has not written.
    """
    output_dir = Path(output_dir)
    if not os.path.lexists(output_dir):
        return
    fault = ""
    if output_dir.is_symlink() or not output_dir.is_dir():
        fault = "is a link, or no directory"
    else:
        there = list(output_dir.iterdir())
        others = {file.name for file in there if file.name not in FILES or file.is_dir()}
        if others:
            fault = f"holds {min(others)}, which is not part of an encoder directory"
        elif there and not _is_ours(output_dir / "config.json"):
            fault = "holds files that espnet_prune has not written, by their config.json"
    if fault:
        raise ValueError(f"{output_dir}: {fault}: give a directory that does not exist")


def _is_ours(config: Path) -> bool:
    try:
        return read_record(config).get("model_type") == SpeechEncoderConfig.model_type
    except (OSError, ValueError):
        return False


def write_encoder(
    encoder: SpeechEncoder,
    output_dir: str | Path,
    summary: Mapping | None = None,
    add: Callable[[Path], object] | None = None,
    head: Head | None = None,
) -> None:
    """Write an encoder directory under a temporary name, then swap it in.

    Args:
        summary: for summary.json; without it there is no such file.
        add: is called with the temporary directory before the swap, to add `PLOT` to it.
        head: what follows the encoder, to be written with it.
    Raises:
        ValueError: as `check_directory`; the weights or the hidden states are NaN or infinite; or
            another process writes the same directory.
    """
    output_dir = Path(output_dir)
    check_directory(output_dir)
    check_finite(encoder.state_dict(), str(output_dir))
    _check_output(encoder, output_dir)
    place = Path(os.path.abspath(output_dir))
    names = [f".{place.name}.espnet_prune.{end}" for end in ("tmp", "old", "lock")]
    temporary, old, lock = map(place.with_name, names)
    with held(lock, f"the directory {output_dir}"):
        _clean_up(place, temporary, old)  # after a run that was killed
        try:
            temporary.mkdir(parents=True)
            (encoder if head is None else with_head(encoder, head)).save_pretrained(temporary)
            for name, text in ({} if head is None else head.files).items():
                write_text(temporary / name, text)
            if summary is not None:
                write_json(temporary / SUMMARY, summary)
            if add is not None:
                add(temporary)
            for file in (*temporary.iterdir(), temporary):
                _sync(file)
            check_directory(place)
            if place.exists():
                place.rename(old)
            temporary.rename(place)
            _sync(place.parent)
        except SafetensorError as error:  # its own class for a full disk
            raise OSError(f"{output_dir}: cannot be written: {first_line(error)}") from None
        except OSError as error:
            if error.errno is None:
                raise
            raise type(error)(error.errno, error.strerror, str(output_dir)) from error
        finally:
            _clean_up(place, temporary, old)


def _clean_up(place: Path, temporary: Path, old: Path) -> None:
    """Put the old directory back where no new one has come into its place, and remove the rest."""
    if old.exists() and not place.exists():
        old.rename(place)
    for leftover in (temporary, old):
        shutil.rmtree(leftover, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or a directory's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@torch.no_grad()
def _check_output(encoder: SpeechEncoder, output_dir: Path) -> None:
    """Weights of a training that diverged can be finite, but too large to compute with."""
    training = encoder.training
    samples = max(encoder.family_of.minimum_samples(encoder.config.base), encoder.sampling_rate)
    most = encoder.family_of.maximum_samples(encoder.config.base)
    noise = torch.randn(min(samples, most or samples), generator=torch.Generator().manual_seed(0))
    found = encoder.eval()(0.1 * noise[None].to(encoder.device), full_window=False)
    encoder.train(training)
    if not bool(torch.isfinite(found.last_hidden_state).all()):
        text = "gives NaN or infinite hidden states: its training diverged"
        raise ValueError(f"{output_dir}: is not written, as the encoder {text}")


def sizes(encoder: SpeechEncoder, cost: Cost = "parameters") -> dict[str, int | float | str]:
    """Size of an encoder and of its dense base, for its summary.

    Args:
        cost: what was pruned by; of a latency table also what it predicts.
    """
    plan, dense = encoder.plan(), encoder.outline({}).plan()
    found: dict[str, int | float | str] = {
        "parameters": int(plan.parameters()),
        "dense_parameters": int(dense.parameters()),
        "macs_per_second": float(plan.macs()),
        "dense_macs_per_second": float(dense.macs()),
    }
    if isinstance(cost, LatencyTable):
        found["latency_table"] = cost.source
        found["latency_seconds"] = float(cost(plan, {}))
        found["dense_latency_seconds"] = float(cost(dense, {}))
    return found


def size_line(summary: Mapping) -> str:
    """A line about the `sizes` in a summary."""
    share = 1 - summary["parameters"] / summary["dense_parameters"]
    line = (
        f"{summary['parameters'] / 1e6:.3f} M parameters ({share:.1%} fewer), "
        f"{summary['macs_per_second'] / 1e9:.3f} of {summary['dense_macs_per_second'] / 1e9:.3f} "
        "G MACs per second of audio"
    )
    if "latency_table" in summary:
        line += (
            f", {1000 * summary['latency_seconds']:.1f} of "
            f"{1000 * summary['dense_latency_seconds']:.1f} ms by {summary['latency_table']}"
        )
    return line


def removed_share(pruned: str | Path) -> float:
    """Share of the dense encoder's parameters that the encoder of a directory lacks.

    Raises:
        FileNotFoundError, ValueError: the directory has no summary.json, or one without sizes.
    """
    summary = read_record(Path(pruned) / SUMMARY, ("parameters", "dense_parameters"))
    return 1 - summary["parameters"] / summary["dense_parameters"]


@contextmanager
def written_beside(output_dir: str | Path) -> Iterator[Path]:
    """A directory to fill, which gets the name `output_dir` afterwards, and is gone on an error.

    Raises:
        ValueError: there is something already, or another process writes it.
    """
    place = Path(os.path.abspath(output_dir))
    if os.path.lexists(place):
        raise ValueError(f"{output_dir}: exists already: give a directory that does not")
    names = [f".{place.name}.espnet_prune.{end}" for end in ("tmp", "lock")]
    temporary, lock = map(place.with_name, names)
    place.parent.mkdir(parents=True, exist_ok=True)
    with held(lock, f"the directory {output_dir}"):
        shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
        temporary.mkdir()
        try:
            yield temporary
            for file in (*temporary.iterdir(), temporary):
                _sync(file)
            temporary.rename(place)
            _sync(place.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
