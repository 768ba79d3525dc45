"""Query-by-example search with the hidden states of a speech encoder, layer by layer.

SUPERB's way, without training: subsequence dynamic time warping of each query on each document,
see `espnet_prune.evaluate.superb.dtw`. Frames are normalised by mean and standard deviation over a
set of queries and all documents, scores for each query over the documents. Documents are encoded
twice: once for these statistics, once for the search.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from espnet_prune.data.audio import load_speech
from espnet_prune.data.data_dir import read_scp
from espnet_prune.evaluate.superb.dtw import Queries, normalise_scores
from espnet_prune.files.writing import write_text
from espnet_prune.structured import load_encoder

logger = logging.getLogger(__name__)


class Moments:
    """Mean and standard deviation of frames that come bit by bit, one for each layer."""

    def __init__(self, layers: int):
        self.count = 0
        self.sums = [0.0] * layers
        self.squares = [0.0] * layers

    def add(self, states: list[Tensor]) -> None:
        """Take the states of an utterance in, each of shape (N, D)."""
        self.count += len(states[0])
        for layer, frames in enumerate(states):
            frames = frames.double()
            self.sums[layer] = self.sums[layer] + frames.sum(dim=0)
            self.squares[layer] = self.squares[layer] + frames.square().sum(dim=0)

    def with_(self, other: Moments, layer: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, both (D,), over the frames of two together."""
        count = self.count + other.count
        mean = (self.sums[layer] + other.sums[layer]) / count
        squares = self.squares[layer] + other.squares[layer]
        variance = (squares - count * mean.square()).clamp(min=0) / max(count - 1, 1)
        return mean.float(), variance.sqrt().float()


class Listener:
    """Hidden states of single utterances, of the encoder of a directory or hub name."""

    def __init__(self, model: str, device: str):
        self.device = device
        self.encoder = load_encoder(model).eval().to(device)
        self.layers = self.encoder.num_layers + 1
        self.least = self.encoder.family_of.minimum_samples(self.encoder.config.base)

    @torch.inference_mode()
    def states(self, path: str) -> list[Tensor]:
        """States of all layers, each (N, D); N is 0 where the audio is too short for a frame."""
        samples = load_speech(path, self.encoder.sampling_rate)
        if len(samples) < self.least:
            nothing = torch.zeros(0, self.encoder.hidden_size, device=self.device)
            return [nothing] * self.layers
        speech = torch.from_numpy(samples)[None].to(self.device)
        try:
            states, _ = self.encoder(speech, torch.tensor([len(samples)])).features()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return [state[0] for state in states]

    def each(self, folder: Path, title: str) -> Iterator[tuple[str, list[Tensor]]]:
        """Name and states of each recording in a data directory."""
        for name, path in tqdm(read_scp(folder / "wav.scp").items(), title, mininterval=2):
            yield name, self.states(path)


def search(
    listener: Listener, documents: Path, query_dirs: Mapping[str, Path]
) -> dict[str, tuple[list[str], list[str], Tensor]]:
    """Normalised scores of all queries in all documents (ValueError: one is too short for a frame).

    Returns: for each set of queries, its queries, the documents, and scores of shape
        (layers, queries, documents).
    """
    every = Moments(listener.layers)
    names = []
    for name, states in listener.each(documents, "documents"):
        if not len(states[0]):
            short = f"too short for a frame of the encoder, which needs {listener.least} samples"
            raise ValueError(f"{documents}: {name} is {short}; remove it")
        every.add(states)
        names.append(name)
    sets = {title: _prepare(listener, folder, title, every) for title, folder in query_dirs.items()}
    found = {
        title: torch.zeros(listener.layers, len(queries), len(names))
        for title, (queries, _) in sets.items()
    }
    for number, (_, states) in enumerate(listener.each(documents, "search")):
        for title, (_, by_layer) in sets.items():
            for layer, queries in enumerate(by_layer):
                found[title][layer, :, number] = queries.scores(states[layer]).cpu()
    return {
        title: (sets[title][0], names, torch.stack([normalise_scores(each) for each in layers]))
        for title, layers in found.items()
    }


def _prepare(
    listener: Listener, folder: Path, title: str, every: Moments
) -> tuple[list[str], list[Queries]]:
    """Names of a set of queries, and what is searched for in each layer."""
    found = dict(listener.each(folder, title))
    own = Moments(listener.layers)
    for states in found.values():
        own.add(states)
    by_layer = [
        Queries([states[layer] for states in found.values()], *every.with_(own, layer))
        for layer in range(listener.layers)
    ]
    short = [name for name, good in zip(found, by_layer[0].searched, strict=True) if not good]
    if short:
        text = "%s: %d queries are too short to be searched for, the first is %s"
        logger.warning(text, folder, len(short), short[0])
    return list(found), by_layer


def write_search(
    upstream: str, documents: Path, query_dirs: Mapping[str, Path], output_dir: Path, device: str
) -> None:
    """Write NAME/layerN.txt, 'query document score' lines; layer 0 is the first layer's input.

    Args:
        query_dirs: name of a set of queries -> its formatted data directory. Audio that cannot be
            read, or is not at the encoder's rate, is a FileNotFoundError or ValueError.
    """
    listener = Listener(upstream, device)
    for title, (queries, names, layers) in search(listener, documents, query_dirs).items():
        for layer, scores in enumerate(layers.tolist()):
            lines = [
                f"{query} {document} {score:.6f}\n"
                for query, row in zip(queries, scores, strict=True)
                for document, score in zip(names, row, strict=True)
            ]
            write_text(output_dir / title / f"layer{layer}.txt", "".join(lines))
        print(f"{output_dir / title}: {len(queries)} queries, {listener.layers} layers")
