"""Transcribes with the CTC of an ESPnet ASR model, greedily and without language model.

SUPERB decodes in this way: it takes the most probable token of every frame, then leaves out
repetitions and blanks. (`espnet2.bin.asr_inference` with a beam of 1 searches prefixes.) The
options are those of that command, and so is the file that is written, OUTPUT_DIR/1best_recog/text,
with utterance and hypothesis in a line.
"""

from __future__ import annotations

import argparse
from itertools import groupby

import torch
from torch import Tensor

from espnet_prune.cli import errors as cli
from espnet_prune.cli.options import device_of
from espnet_prune.data.data_dir import write_table
from espnet_prune.plugin.inference import get_parser, load, outputs


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


def run(args: argparse.Namespace) -> None:
    from espnet2.text.build_tokenizer import build_tokenizer

    device = device_of(args.ngpu)
    model, trained = load("asr.ASRTask", args, device)
    symbols = trained.non_linguistic_symbols
    tokenizer = build_tokenizer(trained.token_type, trained.bpemodel, symbols)

    def text_of(speech: Tensor) -> str:
        (tokens,) = transcribe(model, speech, torch.tensor([speech.shape[1]], device=device))
        return tokenizer.tokens2text([model.token_list[token] for token in tokens])

    texts = dict(outputs(args, "transcribe", device, text_of))
    write_table(args.output_dir / "1best_recog" / "text", texts)


def main(cmd: list[str] | None = None) -> None:
    cli.run(run, get_parser(__doc__, "asr_"), cmd)


if __name__ == "__main__":
    main()
