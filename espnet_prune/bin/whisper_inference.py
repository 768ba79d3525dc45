"""Transcribes a data directory by Whisper's own decoder behind a dense or pruned encoder.

Decoding is greedy, over Whisper's full window of 30 s, with the prompt and the suppressed tokens of
the teacher's generation_config.json. OUTPUT_DIR/text has utterance and hypothesis in a line. A run
that was stopped goes on after the last finished batch.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from espnet_prune.cli import errors as cli


def run(args: argparse.Namespace) -> None:
    from espnet_prune.evaluate.whisper import transcribe_directory

    transcribe_directory(**vars(args))


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--teacher_dir", type=Path, required=True, help="transformers directory of the full Whisper"
    )
    parser.add_argument(
        "--encoder", help="dense or pruned encoder directory (default: the teacher's own encoder)"
    )
    parser.add_argument(
        "--data_dir", type=Path, required=True, help="data directory with formatted 16 kHz audio"
    )
    parser.add_argument(
        "--output_dir", type=Path, required=True, help="directory for text and decode.json"
    )
    parser.add_argument("--batch_size", type=int, default=16, help="utterances in a batch")
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
