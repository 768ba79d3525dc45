"""Query-by-example search with the hidden states of a speech encoder, layer by layer.

SUPERB's way, without training: subsequence dynamic time warping of each query on each document,
see `dtw`. Frames are normalised by mean and standard deviation over a set of
queries and all documents, scores for each query over the documents. Documents are encoded twice:
once for these statistics, once for the search.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from espnet_prune.cli import errors as cli
from espnet_prune.data.audio import check_speech, read_speech
from espnet_prune.data.data_dir import read_table
from espnet_prune.evaluate.superb.dtw import Queries, normalise_scores
from espnet_prune.files.writing import write_text
from espnet_prune.plugin.inner_encoder import PretrainedEncoder

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


class Encoder:
    """Hidden states of single utterances.

    Args:
        model: directory or hub name.
        device: name of a device of torch.
    """

    def __init__(self, model: str, device: str):
        self.device = device
        self.pretrained = PretrainedEncoder(model, freeze=True, full_window=True).to(device)
        encoder = self.pretrained.encoder
        self.rate = encoder.sampling_rate
        self.layers, self.width = encoder.num_layers + 1, encoder.hidden_size
        self.least = encoder.family_of.minimum_samples(encoder.config.base)

    @torch.inference_mode()
    def states(self, path: str) -> list[Tensor]:
        """States of all layers, each (N, D); N is 0 where the audio is too short for a frame.

        Raises:
            FileNotFoundError, ValueError: the file cannot be read or is not at the encoder's rate.
        """
        samples, rate = read_speech(path)
        check_speech(samples[:, 0], rate, path, fs=self.rate)
        if len(samples) < self.least:
            return [torch.zeros(0, self.width, device=self.device)] * self.layers
        speech = torch.from_numpy(samples[:, 0])[None].to(self.device)
        try:
            states, _ = self.pretrained(speech, torch.tensor([speech.shape[1]]))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return [state[0] for state in states]


def encode(encoder: Encoder, folder: Path, title: str) -> Iterator[tuple[str, list[Tensor]]]:
    """Name and states of each recording in a data directory."""
    scp = folder / "wav.scp"
    for name, path in tqdm(read_table(scp).items(), title, mininterval=2):
        yield name, encoder.states(path)


def search(encoder: Encoder, documents: Path, query_dirs: dict[str, Path]) -> dict[str, dict]:
    """Normalised scores of all queries in all documents.

    Returns: for each set of queries, its queries, the documents, and scores of shape
        (layers, queries, documents).

    Raises:
        ValueError: a document is too short for a frame.
    """
    every = Moments(encoder.layers)
    names = []
    for name, states in encode(encoder, documents, "documents"):
        if not len(states[0]):
            raise ValueError(
                f"{documents}: {name} is too short for a frame of the encoder, which needs "
                f"{encoder.least} samples; remove it"
            )
        every.add(states)
        names.append(name)
    found = {}
    for title, folder in query_dirs.items():
        queries = dict(encode(encoder, folder, title))
        own = Moments(encoder.layers)
        for states in queries.values():
            own.add(states)
        by_layer = [
            Queries([states[layer] for states in queries.values()], *every.with_(own, layer))
            for layer in range(encoder.layers)
        ]
        short = [name for name, good in zip(queries, by_layer[0].searched, strict=True) if not good]
        if short:
            logger.warning(
                "%s: %d queries are too short to be searched for, the first is %s",
                folder,
                len(short),
                short[0],
            )
        found[title] = {"queries": list(queries), "documents": names, "by_layer": by_layer}
        found[title]["scores"] = torch.zeros(encoder.layers, len(queries), len(names))
    for number, (_, states) in enumerate(encode(encoder, documents, "search")):
        for entry in found.values():
            for layer, queries in enumerate(entry["by_layer"]):
                entry["scores"][layer, :, number] = queries.scores(states[layer]).cpu()
    for entry in found.values():
        del entry["by_layer"]
        entry["scores"] = torch.stack([normalise_scores(layer) for layer in entry["scores"]])
    return found


def run(args: argparse.Namespace) -> None:
    query_dirs = {name: Path(folder) for name, folder in args.queries}
    if len(query_dirs) != len(args.queries):
        raise ValueError("--queries: a name is there twice")
    if args.ngpu not in (0, 1):
        raise ValueError(f"--ngpu {args.ngpu}: 0 or 1 is wanted")
    encoder = Encoder(args.upstream, "cuda" if args.ngpu else "cpu")
    for title, entry in search(encoder, args.documents, query_dirs).items():
        for layer, scores in enumerate(entry["scores"].tolist()):
            lines = [
                f"{query} {document} {score:.6f}\n"
                for query, row in zip(entry["queries"], scores, strict=True)
                for document, score in zip(entry["documents"], row, strict=True)
            ]
            write_text(args.output_dir / title / f"layer{layer}.txt", "".join(lines))
        print(
            f"{args.output_dir / title}: {len(entry['queries'])} queries, {encoder.layers} layers"
        )


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upstream", required=True, help="directory or hub name of the encoder")
    parser.add_argument("--documents", type=Path, required=True, help="formatted data directory")
    parser.add_argument(
        "--queries",
        nargs=2,
        action="append",
        required=True,
        metavar=("NAME", "DIR"),
        help="name of a set of queries and its formatted data directory, one for each pair",
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        required=True,
        help="gets NAME/layerN.txt, 'query document score' lines, N = 0 for the first input",
    )
    parser.add_argument("--ngpu", type=int, default=0, help="0 (CPU) or 1")
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
