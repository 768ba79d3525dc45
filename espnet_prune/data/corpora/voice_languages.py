"""Spoken language identification on Debian's voice prompts, see `voice_prompts`.

There is one speaker for each language, so that a probe may as well tell the speakers apart.
"""

from __future__ import annotations

import logging
from pathlib import Path

from espnet_prune.data.corpora.labelled import Labelled, write_sets
from espnet_prune.data.corpora.voice_prompts import (
    MOST_SECONDS,
    SPLITS,
    fetch_prompts,
    prompt_split,
    seconds_of,
)

logger = logging.getLogger(__name__)


def prepare(out_dir: str | Path, download_dir: str | Path) -> dict[str, int]:
    """Write the data directories train, dev and test; returns their numbers of utterances.

    A prompt is in the same set in all languages, and in the one where the ASR recipe has it. Those
    that are longer than 30 s, Whisper's window, are left out.

    Args:
        out_dir: folder of the data directories.
        download_dir: folder of the Debian packages.

    Raises:
        FileNotFoundError: the packages cannot be had.
        ValueError: a set would be empty.
    """
    sets: dict[str, list[Labelled]] = {name: [] for name in SPLITS}
    for recording in fetch_prompts(download_dir):
        if seconds_of(recording.path) > MOST_SECONDS:
            logger.warning("%s: not used, longer than %g s", recording.utterance, MOST_SECONDS)
            continue
        sets[prompt_split(recording.name)].append(
            Labelled(recording.utterance, recording.speaker, recording.language, recording.path)
        )
    return write_sets(out_dir, sets)
