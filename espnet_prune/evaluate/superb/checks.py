"""Checks before a probe is trained: lengths of utterances, and whether a feature cache pays."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
import timeit
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from espnet_prune.data import data_dir
from espnet_prune.data.audio import SAMPLING_RATE
from espnet_prune.files.reading import read_config

RANDOM_CROPS = ("speaker_crops", "spk")  # preprocessors that cut them


def check_encoder(
    upstream: str,
    config: Path | None,
    train: Sequence[str],
    others: Sequence[str],
    cache: str | None,
    device: str,
) -> Iterator[str]:
    """`check_lengths` and, with a cache, `announce_cache`; yields what they find.

    Arguments are the options of `espnet-prune superb lengths`.
    """
    check_lengths(upstream, read_config(config) if config else {}, train, others)
    yield f"{upstream} takes all utterances"
    if cache:
        yield announce_cache(upstream, cache, [*train, *others], device)


def check_lengths(
    upstream: str | Path, config: dict, train: Sequence[str | Path], others: Sequence[str | Path]
) -> None:
    """Check that an encoder takes every utterance of formatted data directories.

    Args:
        upstream: directory or hub name of the encoder.
        config: of the probe's training; its frontend may crop utterances in training.
    Raises:
        FileNotFoundError: no such encoder or directory.
        ValueError: an utterance is shorter than the encoder's receptive field, or longer than what
            it takes at once.
    """
    from espnet_prune.structured import load_encoder  # torch takes seconds

    encoder = load_encoder(upstream)
    base, rate = encoder.config.base, encoder.sampling_rate
    least = encoder.family_of.minimum_samples(base)
    most = encoder.family_of.maximum_samples(base)
    crop = (config.get("frontend_conf") or {}).get("crop_seconds")
    for folder in (*train, *others):
        path = Path(folder) / "utt2num_samples"
        samples = data_dir.read_counts(path)
        short = [name for name, number in samples.items() if number < least]
        long = [name for name, number in samples.items() if most and number > most]
        if crop and folder in train and most and crop * rate <= most:
            long = []
        for names, what, limit in (
            (short, "shorter than the receptive field of", least),
            (long, "longer than the window of", most),
        ):
            if names:
                raise ValueError(
                    f"{path}: {names[0]} has {samples[names[0]]} samples, {what} the "
                    f"{encoder.family} encoder, {limit}; leave such utterances ({len(names)}) out"
                )


def check_cacheable(config: Path) -> None:
    """Check that the training of a config file hears the same waveforms in each epoch (ValueError:
    it cuts another random crop each time, so that a feature cache would only grow)."""
    options = read_config(config)
    crop = (options.get("frontend_conf") or {}).get("crop_seconds")
    preprocessor = options.get("preprocessor")
    if crop is None and preprocessor not in RANDOM_CROPS:
        return
    cut = f"preprocessor: {preprocessor}" if crop is None else f"frontend_conf crop_seconds: {crop}"
    raise ValueError(
        f"{config}: --feature_cache true does not go with '{cut}', which cuts another random crop "
        "in each epoch; give --feature_cache false"
    )


def announce_cache(
    upstream: str | Path, directory: str | Path, folders: Sequence[str | Path], device: str = "cpu"
) -> str:
    """Tell the user how much disk the features of data directories need, and if they save time
    (ValueError: the disk has less space free).

    Args:
        upstream: directory or hub name of the encoder.
        directory: of the cache; it may not be there yet.
        folders: formatted data directories. An utterance that is in several of them counts once.
    """
    from espnet_prune.structured import load_encoder
    from espnet_prune.structured.distill.state_cache import bytes_of

    table: dict[str, int] = {}
    for folder in folders:
        table.update(data_dir.read_counts(Path(folder) / "utt2num_samples"))
    samples = list(table.values())
    encoder = load_encoder(upstream)
    need = sum(bytes_of(encoder, number) for number in samples)
    place = Path(directory).absolute()
    there = next(each for each in (place, *place.parents) if each.exists())
    free = shutil.disk_usage(there).free
    text = (
        f"{directory}: the hidden states of {len(samples)} utterances need {need / 1e9:.2f} GB, "
        f"{free / 1e9:.2f} GB are free"
    )
    if need > free:
        raise ValueError(f"{text}; give --feature_cache false")
    seconds = statistics.median(samples) / SAMPLING_RATE
    return f"{text}\n{cache_speed(upstream, directory, seconds, device)}"


def cache_speed(upstream: str | Path, directory: str | Path, seconds: float, device: str) -> str:
    """Tell the user if hidden states are read faster than the encoder computes them.

    It measures here and now, with one utterance of some seconds alone, as the cache does both. The
    file is read from disk, not from the system's memory, where the system can be told to forget.
    """
    import torch

    from espnet_prune.structured import load_encoder
    from espnet_prune.structured.cost.measure import noise
    from espnet_prune.structured.distill.state_cache import FeatureCache

    encoder = load_encoder(upstream).to(device).eval()
    wave = noise(seconds, 1, encoder.device, encoder.dtype)[0][0]
    layers = range(encoder.num_layers + 1)
    Path(directory).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as folder, torch.inference_mode():
        cache = FeatureCache(folder, encoder, full_window=True)
        measure = partial(timeit.repeat, timer=time.perf_counter, number=1, repeat=4)
        asked = measure(lambda: cache.ask(wave)[0].cpu())
        cache.one(wave, layers)
        (file,) = Path(folder).glob("*/*.safetensors")
        read = measure(lambda: cache.one(wave, layers)[0].cpu(), lambda: _forget(file))
    asked, read = (1000 * statistics.median(times[1:]) for times in (asked, read))
    verdict = "faster" if read < asked else "no faster; leave --feature_cache true out"
    return (
        f"{directory}: an utterance of {seconds:.1f} s takes the encoder {asked:.1f} ms, and "
        f"{read:.1f} ms to be read: from the second epoch on, reading is {verdict}"
    )


def _forget(file: Path) -> None:
    """Have the system drop what it keeps of a file in memory."""
    if hasattr(os, "posix_fadvise"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
