"""Random crops of training utterances, the same whatever machine, workers or processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from espnet2.iterators.abs_iter_factory import AbsIterFactory

from espnet_prune.data.data_dir import hash_key

Data = dict[str, np.ndarray]


@dataclass
class RandomCrop:
    """A preprocessor of ESPnet that cuts a part out of longer utterances.

    Its place follows from seed, epoch and name of the utterance alone: not from a generator's
    state, which depends on the number of loader workers and of processes.

    Args:
        before: preprocessor that gets the whole utterance first.
        samples: length of the part; shorter utterances stay whole.
        seed: of the places.
        epoch: current epoch, see `CroppingIterFactory`.
    """

    before: Callable[[str, Data], Data]
    samples: int
    seed: int = 0
    epoch: int = 0

    def __call__(self, utt_id: str, data: Data) -> Data:
        """`data` with (at most `samples`,) of its `speech` (T,)."""
        data = self.before(utt_id, data)
        speech = data["speech"]
        places = len(speech) - self.samples + 1
        if places <= 1:
            return data
        start = int(hash_key(f"{self.epoch}:{utt_id}", self.seed), 16) % places
        return {**data, "speech": speech[start : start + self.samples]}


class CroppingIterFactory(AbsIterFactory):
    """Tells a `RandomCrop` the epoch, then has another factory build the epoch's iterator.

    The iterator's workers start afterwards and take the epoch with them. The dataset of `factory`
    has `crop` as preprocessor.
    """

    def __init__(self, factory: AbsIterFactory, crop: RandomCrop):
        self.factory = factory
        self.crop = crop

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> Iterator:
        self.crop.epoch = epoch
        return self.factory.build_iter(epoch, shuffle)
