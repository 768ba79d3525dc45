"""Transcribes with the CTC of an ESPnet ASR model, greedily and without language model.

Of every frame the most probable token is taken, then repetitions and blanks are left out, which is
how SUPERB decodes and takes one forward pass (`espnet2.bin.asr_inference` with a beam of 1 searches
prefixes). Takes the options of that command which it needs and writes the same file,
OUTPUT_DIR/1best_recog/text (utterance and hypothesis a line).
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from espnet_prune.cli import errors as cli
from espnet_prune.cli.options import device_of


def run(args: argparse.Namespace) -> None:
    from espnet_prune.data.data_dir import write_table
    from espnet_prune.plugin.greedy_ctc import transcripts

    for path in (args.asr_train_config, args.asr_model_file, args.key_file):
        if path is not None and not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
    found = transcripts(
        args.asr_train_config,
        args.asr_model_file,
        tuple(args.data_path_and_name_and_type.split(",")),
        args.key_file,
        device_of(args.ngpu),
    )
    write_table(args.output_dir / "1best_recog" / "text", dict(found))


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
    parser.add_argument("--ngpu", type=int, default=0, help="0 (CPU) or 1")
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
