"""Transcribes with the CTC of an ESPnet ASR model, greedily and without language model.

Of every frame the most probable token is taken, then repetitions and blanks are left out, which is
how SUPERB decodes and takes one forward pass (`espnet2.bin.asr_inference` with a beam of 1 searches
prefixes). Takes the options of that command which it needs and writes the same file,
OUTPUT_DIR/1best_recog/text (utterance and hypothesis a line).
"""

from __future__ import annotations

import argparse
import logging
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from espnet_prune.cli import errors as cli
from espnet_prune.data.data_dir import read_table, write_table
from espnet_prune.plugin.registry import register


def best_path(frames: list[int], left_out: set[int]) -> list[int]:
    """The tokens of the best token of each frame: of a run of the same one is kept.

    Args:
        frames: a token for each frame.
        left_out: blank and other tokens that stand for nothing.
    """
    return [token for token, _ in groupby(frames) if token not in left_out]


@torch.inference_mode()
def transcribe(model, speech: Tensor, lengths: Tensor) -> list[list[int]]:
    """Tokens of each utterance.

    Args:
        model: an `ESPnetASRModel` in evaluation mode.
        speech: (B, T) waveforms.
        lengths: (B,) samples.
    """
    hidden, frames = model.encode(speech, lengths)
    best = model.ctc.argmax(hidden).tolist()
    left_out = {model.blank_id, model.sos, model.eos}
    return [best_path(row[:n], left_out) for row, n in zip(best, frames.tolist(), strict=True)]


def run(args: argparse.Namespace) -> None:
    register()
    from espnet2.tasks.asr import ASRTask
    from espnet2.text.build_tokenizer import build_tokenizer

    for path in (args.asr_train_config, args.asr_model_file, args.key_file):
        if path is not None and not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
    device = "cuda" if args.ngpu else "cpu"
    model, trained = ASRTask.build_model_from_file(
        args.asr_train_config, args.asr_model_file, device
    )
    model.eval()
    tokenizer = build_tokenizer(
        trained.token_type,
        bpemodel=trained.bpemodel,
        non_linguistic_symbols=trained.non_linguistic_symbols,
    )
    path, name, kind = args.data_path_and_name_and_type.split(",")
    loader = ASRTask.build_streaming_iterator(
        [(path, name, kind)],
        dtype="float32",
        preprocess_fn=None,
        collate_fn=ASRTask.build_collate_fn(trained, False),
        key_file=args.key_file,
        inference=True,
    )
    texts = {}
    number = len(read_table(args.key_file or path))
    for keys, batch in tqdm(loader, "transcribe", number, mininterval=2):
        speech, lengths = (batch[key].to(device) for key in ("speech", "speech_lengths"))
        for key, tokens in zip(keys, transcribe(model, speech, lengths), strict=True):
            texts[key] = tokenizer.tokens2text([model.token_list[token] for token in tokens])
    write_table(args.output_dir / "1best_recog" / "text", texts)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data_path_and_name_and_type",
        required=True,
        metavar="FILE,speech,sound",
        help="the audio: FILE has 'utterance path' lines",
    )
    parser.add_argument(
        "--key_file", help="its first words are the utterances wanted; default: all"
    )
    parser.add_argument("--asr_train_config", required=True, help="config.yaml of the training")
    parser.add_argument("--asr_model_file", required=True, help="weights")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--ngpu", type=int, default=0, help="0: CPU")
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
