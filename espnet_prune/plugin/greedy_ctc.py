"""Greedy decoding with the CTC of an ESPnet ASR model, without search and language model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import torch
from torch import Tensor
from tqdm import tqdm

from espnet_prune.data.data_dir import read_table
from espnet_prune.plugin.registry import register


def best_path(frames: list[int], left_out: set[int]) -> list[int]:
    """Tokens of the frames: of a run of the same one is kept, blank and the like are left out."""
    return [token for token, _ in groupby(frames) if token not in left_out]


@torch.inference_mode()
def transcribe(model, speech: Tensor, lengths: Tensor) -> list[list[int]]:
    """Tokens of each utterance, for waveforms (B, T) of `lengths` (B,) samples."""
    hidden, frames = model.encode(speech, lengths)
    best = model.ctc.argmax(hidden).tolist()
    left_out = {model.blank_id, model.sos, model.eos}
    return [best_path(row[:n], left_out) for row, n in zip(best, frames.tolist(), strict=True)]


def transcripts(
    config: str, weights: str, audio: tuple[str, str, str], key_file: str | None, device: str
) -> Iterator[tuple[str, str]]:
    """Utterance and text, one after the other.

    Args:
        config: config.yaml of the training.
        weights: a .pth of it.
        audio: path, name and type, as ESPnet's --data_path_and_name_and_type.
        key_file: its first words are the utterances wanted; None: all.
    """
    register()
    from espnet2.tasks.asr import ASRTask
    from espnet2.text.build_tokenizer import build_tokenizer

    model, trained = ASRTask.build_model_from_file(config, weights, device)
    model.eval()
    symbols = trained.non_linguistic_symbols
    tokenizer = build_tokenizer(trained.token_type, trained.bpemodel, symbols)
    collate = ASRTask.build_collate_fn(trained, False)
    loader = ASRTask.build_streaming_iterator(
        [audio], None, collate, key_file=key_file, dtype="float32", inference=True
    )
    number = len(read_table(key_file or audio[0]))
    for keys, batch in tqdm(loader, "transcribe", number, mininterval=2):
        speech, lengths = (batch[key].to(device) for key in ("speech", "speech_lengths"))
        for key, tokens in zip(keys, transcribe(model, speech, lengths), strict=True):
            yield key, tokenizer.tokens2text([model.token_list[token] for token in tokens])
