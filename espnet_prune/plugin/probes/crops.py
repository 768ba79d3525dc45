"""ESPnet preprocessor `speaker_crops`: random crops of utterances, for training on speakers."""

from __future__ import annotations

import random

import numpy as np
from espnet2.train.preprocessor import SpkPreprocessor


class SpeakerCrops(SpkPreprocessor):
    """ESPnet's `spk` without noise and reverberation, and with a cut that current NumPy takes.

    (In release 202511 `spk` turns an array of one number into a scalar, an error in NumPy 2.4.)

    Args:
        train: random crops and speakers' names, else evenly spread crops of both utterances of a
            trial and its label.
        target_duration: seconds of a crop; shorter utterances are repeated.
        spk2utt: table whose order numbers the training speakers.
        num_eval: crops of an utterance in validation.
    """

    def __init__(
        self,
        train: bool,
        target_duration: float,
        spk2utt: str | None = None,
        sample_rate: int = 16000,
        num_eval: int = 1,
    ):
        given = {"spk2utt": spk2utt, "sample_rate": sample_rate, "num_eval": num_eval}
        clean = {"rir_apply_prob": 0.0, "noise_info": [], "noise_apply_prob": 0.0}
        super().__init__(train, target_duration, **given, **clean)

    def _speech_process(self, data: dict) -> dict:
        if not self.train:
            return super()._speech_process(data)
        speech, wanted = data["speech"], self.target_duration
        if len(speech) < wanted:
            speech = np.pad(speech, (0, wanted - len(speech)), "wrap")
        begin = random.randint(0, len(speech) - wanted)
        return {**data, "speech": speech[begin : begin + wanted]}
