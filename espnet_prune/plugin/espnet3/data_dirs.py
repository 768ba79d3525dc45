"""Data directories, such as `espnet-prune data format` writes, as datasets of ESPnet 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from espnet3.components.data.base_dataset import BaseDataset
from espnet3.contract import Field

from espnet_prune.data.audio import load_speech
from espnet_prune.data.data_dir import read_scp, read_table


class DataDir(BaseDataset):
    """The utterances of a data directory: speech (T,) at 16 kHz, and text.

    Args:
        data_dir: directory with wav.scp, a recording an utterance, and text.
    Raises:
        FileNotFoundError, ValueError: a table is missing or malformed, or an utterance has no text.
    """

    fields = (Field("speech", "audio"), Field("text", "text"))

    def __init__(self, data_dir: str):
        folder = Path(data_dir)
        self.recordings, self.texts = read_scp(folder / "wav.scp"), read_table(folder / "text")
        self.utterances = list(self.recordings)
        without = self.recordings.keys() - self.texts.keys()
        if without:
            raise ValueError(f"{folder / 'text'}: has no text of {min(without)}")

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> dict[str, Any]:
        utterance = self.utterances[int(index)]
        speech = load_speech(self.recordings[utterance])
        return {"speech": speech, "text": self.texts[utterance]}


def read_texts(data_dir: str) -> list[str]:
    """The transcripts of a data directory, for `tokenizer.text_builder`."""
    return list(read_table(Path(data_dir) / "text").values())
