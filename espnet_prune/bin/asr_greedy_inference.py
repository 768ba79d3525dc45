"""Transcribes with the CTC of an ESPnet ASR model, greedily and without language model.

SUPERB decodes in this way: it takes the most probable token of every frame, then leaves out
repetitions and blanks. (`espnet2.bin.asr_inference` with a beam of 1 searches prefixes.) The
options are those of that command, and so is the file that is written, OUTPUT_DIR/1best_recog/text,
with utterance and hypothesis in a line.
"""

from __future__ import annotations

import argparse
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
    add, audio = parser.add_argument, "'utterance path' lines of audio at 16 kHz"
    form = {"required": True, "metavar": "FILE,speech,sound"}
    add("--data_path_and_name_and_type", help=audio, **form)
    add("--key_file", help="take only the utterances in its first column (default: all)")
    add("--asr_train_config", required=True, help="config.yaml of the training")
    add("--asr_model_file", required=True, help="weights, a .pth of the training")
    add("--output_dir", type=Path, required=True, help="gets 1best_recog/text")
    add("--ngpu", type=int, default=0, help="0 (CPU) or 1")
    return parser


def main(cmd: list[str] | None = None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
