"""`prune`: a speech encoder pruned on the user's own audio, in one call."""

from __future__ import annotations

import copy
import itertools
import logging
import math
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_prune.data import data_dir
from espnet_prune.data.audio import SUFFIXES, at_rate, check_speech, read_speech
from espnet_prune.data.packing import plan_windows
from espnet_prune.files.archives import place_of
from espnet_prune.hub.pretrained import prepare
from espnet_prune.structured import SpeechEncoder, load_encoder
from espnet_prune.structured.encoder_directory import check_directory
from espnet_prune.structured.heads import Head, load_head
from espnet_prune.structured.prune_and_distil import (
    CALIBRATION,
    METHODS,
    calibration,
    check_options,
    prune_encoder,
)

#: seconds: shortest utterance, silence between two in a window, room of the smallest window
MIN_SECONDS, GAP, MIN_FILL = 0.1, 0.3, 5.0
#: seconds of an utterance that is looked at by itself
LONGEST = 30
#: seconds of audio that are held in memory at most: ten hours are 2.3 GB
MOST_SECONDS = 36000


def prune(
    model: str | Path | SpeechEncoder,
    audio: Any,
    target: float = 0.5,
    output_dir: str | Path | None = None,
    *,
    method: str = "one_shot",
    cost: str = "parameters",
    layout: str = "free",
    updates: int = 150,
    distill_updates: int | None = None,
    seed: int = 0,
    device: str | None = None,
) -> SpeechEncoder:
    """Prune a speech encoder on audio; nothing but the audio is needed.

    The method "one_shot" trains nothing: units that cost least are removed, and the others make up
    for them by least squares, in a few minutes. With "l0", gates on all prunable units are learned
    together with the weights, so that the hidden states of all layers stay close to those of the
    dense encoder. After either, the smaller encoder can be distilled. An update is made on one
    window of audio: up to 30 s for Whisper and 10 s for the others, into which utterances are
    packed. The default numbers of updates suit Whisper tiny; larger models and higher targets want
    more.

    Args:
        model: directory or hub name of a dense or pruned encoder of a known family (Whisper,
            wav2vec 2.0, HuBERT, WavLM, …), or an encoder of `load_encoder`, which is not changed.
            The predictions of what follows the encoder in it decide what goes, too.
        audio: a file, a place in an archive (ARCHIVE:BYTE), a folder (all audio below it), a Kaldi
            data directory (wav.scp, and segments if there are), or a list of these and of (T,)
            float arrays or tensors at 16 kHz, in [-1, 1]. Files of one channel are resampled. Of
            more audio than is used, or than ten hours, a random part is read.
        target: share of the cost to remove, in [0, 1).
        output_dir: encoder directory to write, with a plot of what is kept of each layer, and with
            what follows the encoder in `model` (CTC, classification, x-vectors), for `load_model`
            and the pipelines of `transformers`; none is written when absent.
        method: "one_shot" or "l0".
        cost: what `target` is a share of: "parameters" or "macs" (multiply-accumulate operations).
        layout: of attention. "free" gives every head its own sizes, "equal" all heads of a layer
            the same (the fastest), and "stock" keeps all heads and gives queries, keys and values
            one size in a layer (for engines that read it off the weights, such as CTranslate2).
        updates: optimiser updates with gates, of the method l0.
        distill_updates: optimiser updates after slimming; by default 450 for l0, none for
            one_shot.
        seed: the same seed gives the same encoder on the same machine.
        device: to compute on, e.g. "cpu"; when absent "cuda" where there is a GPU.
    Returns: the pruned encoder, in eval mode on the CPU.
    Raises:
        FileNotFoundError: no such model, file or folder.
        ValueError: no audio, audio that cannot be used, a model of no known family, or an option
            out of its range.

    >>> from espnet_prune.structured import SpeechEncoderConfig  # instead of a name: a tiny model
    >>> base = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2}
    >>> base.update(encoder_ffn_dim=64, max_source_positions=50)
    >>> encoder = SpeechEncoder(SpeechEncoderConfig("whisper", base))
    >>> audio = list(0.1 * torch.randn(3, 16000))  # or "folder", or ["a.wav", "b.flac"]
    >>> small = prune(encoder, audio, target=0.4)
    >>> round(1 - small.num_parameters() / encoder.num_parameters(), 1)
    0.4
    """
    if not 0.0 <= target < 1.0:
        raise ValueError(f"target is {target}, but has to be in [0, 1)")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, choose from {', '.join(METHODS)}")
    if cost not in ("parameters", "macs"):
        raise ValueError(f"cost is {cost!r}, choose from parameters, macs")
    if output_dir is not None:
        check_directory(output_dir)
    utterances = _utterances(audio)
    head = None
    if isinstance(model, SpeechEncoder):
        encoder = copy.deepcopy(model)
    else:
        encoder, head = _load(str(model))
    one_shot = method == "one_shot"
    distill_updates = check_options(encoder, target, cost, updates, distill_updates, method, layout)
    number = max(0 if one_shot else updates, distill_updates, 1)
    waveforms = _heard(encoder, utterances, number, seed, one_shot)
    encoder.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    options = (target, cost, updates, distill_updates, seed, method, layout)
    small, summary = prune_encoder(encoder, waveforms, *options, head=head)
    small.cpu()
    if output_dir is not None:
        from espnet_prune.evaluate.pruning_report import write_pruned  # which sets matplotlib up

        write_pruned(small, summary, Path(output_dir), head=head)
    return small


def calibration_audio(encoder: SpeechEncoder, audio: Any, seed: int = 0) -> list[Tensor]:
    """What the method one_shot looks at: windows full of speech, and utterances by themselves.

    Args:
        audio: as for `prune`.
    """
    waveforms = _heard(encoder, _utterances(audio), 1, seed, True)
    return calibration(waveforms, encoder.sampling_rate)


def calibration_utterances(audio: Any, fs: int, seed: int = 0) -> list[Tensor]:
    """Random utterances by themselves, `CALIBRATION` seconds and `LONGEST` each at most.

    Args:
        audio: as for `prune`.
        fs: sampling rate in Hz.
    """
    number = math.ceil(CALIBRATION / LONGEST)
    return calibration(_windows(_utterances(audio), LONGEST * fs, number, fs, seed)[1], fs)


def _heard(
    encoder: SpeechEncoder, utterances: Sequence[_Utterance], number: int, seed: int, singles: bool
) -> list[Tensor]:
    """So many windows of the encoder's length; with `singles` utterances between them, and enough
    of both for `calibration`."""
    fs = encoder.sampling_rate
    window = round(encoder.family_of.default_seconds(encoder.config.base) * fs)
    if singles:
        number = max(number, math.ceil(CALIBRATION * fs / window))
    number = min(number, math.ceil(MOST_SECONDS * fs / window))
    windows, alone = _windows(utterances, window, number, fs, seed)
    if not singles:
        return windows
    pairs = itertools.zip_longest(windows, alone[:number])
    return [each for pair in pairs for each in pair if each is not None]


def _load(name: str) -> tuple[SpeechEncoder, Head | None]:
    """A model of a directory, or one by name from wherever `espnet-prune hub fetch` finds it, and
    what follows the encoder in it."""
    if Path(name).is_dir():
        return load_encoder(name), load_head(name)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        found: list[tuple[SpeechEncoder, Head | None]] = []
        prepare(name, target, lambda path: found.append((load_encoder(path), load_head(path))))
        return found[0]


@dataclass(frozen=True)
class _Utterance:
    """A file, or its part between two times in seconds, or samples at the encoder's rate."""

    name: str
    samples: np.ndarray | None = None
    path: Path | None = None
    begin: float = 0.0
    end: float | None = None

    def read(self, fs: int) -> np.ndarray:
        """(T,) float32 at `fs` Hz."""
        if self.samples is not None:
            check_speech(self.samples, fs, self.name, min_seconds=MIN_SECONDS)
            return self.samples
        assert self.path is not None
        samples, rate = read_speech(self.path, self.begin, self.end)
        return at_rate(samples, rate, self.name, fs, MIN_SECONDS)


def _utterances(audio: Any) -> list[_Utterance]:
    alone = isinstance(audio, str | Path)
    items = [audio] if alone else list(audio)
    found = [each for number, item in enumerate(items) for each in _item(item, number)]
    if not found:
        raise ValueError(f"{audio}: no audio files in it" if alone else "the list has no audio")
    return found


def _item(item: Any, number: int) -> Iterator[_Utterance]:
    """What one item of the user's list stands for."""
    if not isinstance(item, str | Path):
        yield _array(item, f"audio[{number}]")
        return
    path = Path(item).expanduser()
    place, _ = place_of(path)
    if not place.exists():
        raise FileNotFoundError(f"{path}: no such file or folder of audio")
    if place.is_file():
        yield _Utterance(str(path), path=path)
    elif (path / "wav.scp").is_file():
        yield from _of_data_directory(path)
    else:
        for file in sorted(path.rglob("*")):
            hidden = file.name.startswith(".")
            if file.suffix.lower() in SUFFIXES and file.is_file() and not hidden:
                yield _Utterance(str(file), path=file)


def _array(item: Any, name: str) -> _Utterance:
    samples = item.detach().cpu().numpy() if isinstance(item, Tensor) else np.asarray(item)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        found = f"has the shape {samples.shape} and the type {samples.dtype}"
        raise ValueError(f"{name}: {found}, but has to be (T,) floats in [-1, 1] at 16 kHz")
    return _Utterance(name, samples.astype(np.float32))


def _of_data_directory(folder: Path) -> Iterator[_Utterance]:
    scp = data_dir.read_table(folder / "wav.scp")
    paths = data_dir.parsed(folder / "wav.scp", scp, data_dir.audio_path)
    if not (folder / "segments").is_file():
        yield from (_Utterance(f"{name} ({path})", path=path) for name, path in paths.items())
        return
    table = data_dir.read_table(folder / "segments")
    segments = data_dir.parsed(folder / "segments", table, data_dir.parse_segment)
    for name, (recording, begin, end) in segments.items():
        if recording not in paths:
            raise ValueError(f"{folder / 'segments'}: {name}: wav.scp has no {recording}")
        path = paths[recording]
        yield _Utterance(f"{name} ({path})", path=path, begin=begin, end=end)


def _windows(
    utterances: Sequence[_Utterance], window: int, count: int, fs: int, seed: int
) -> tuple[list[Tensor], list[Tensor]]:
    """At most `count` windows of at most `window` samples, filled with utterances; and these.

    Utterances are read in a random order until there are enough.
    """
    order = list(range(len(utterances)))
    random.Random(seed).shuffle(order)
    read: dict[str, np.ndarray] = {}
    seconds = 0.0
    for number in order:
        if seconds >= count * window / fs:
            break
        samples = utterances[number].read(fs)
        read[f"{number:09d}"] = samples
        seconds += len(samples) / fs
    lengths = {key: len(samples) for key, samples in read.items()}
    least = min(window, round(MIN_FILL * fs))
    plan = plan_windows(lengths, window, round(GAP * fs), seed, least)[:count]
    windows = []
    for parts in plan:
        samples = np.zeros(parts[-1].offset + parts[-1].num_samples, dtype=np.float32)
        for part in parts:
            piece = read[part.utterance][part.begin : part.begin + part.num_samples]
            samples[part.offset : part.offset + part.num_samples] = piece
        windows.append(torch.from_numpy(samples))
    share = f"{len(read)} of {len(utterances)} utterances, {seconds / 60:.1f} minutes"
    logging.info(f"{share}, in {len(windows)} windows")
    return windows, [torch.from_numpy(samples[:window]) for samples in read.values()]
