"""Transcribes a data directory by Whisper's own decoder behind a dense or pruned encoder.

Decoding is greedy, over Whisper's full window of 30 s, with the prompt and the suppressed tokens of
the teacher's generation_config.json. OUTPUT_DIR/text has utterance and hypothesis in a line. A run
that was stopped goes on after the last finished batch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_prune.cli import errors as cli
from espnet_prune.cli.options import true_or_false


def run(args: argparse.Namespace) -> None:
    from espnet_prune.evaluate.whisper_decoding import transcribe_directory

    transcribe_directory(**vars(args))


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, path = parser.add_argument, {"type": Path, "required": True}
    add("--teacher_dir", help="transformers directory of the full Whisper", **path)
    add("--encoder", help="directory of a dense or pruned encoder (default: the teacher's own)")
    add("--data_dir", help="data directory with formatted 16 kHz audio", **path)
    add("--output_dir", help="directory for text and decode.json", **path)
    add("--batch_size", type=int, default=16, help="utterances in a batch")
    text = "false hears each batch as long as it is: quicker, less exact"
    add("--full_window", type=true_or_false, default=True, help=text)
    text = "end of a transcript that does not end (default: half of the decoder's context)"
    add("--max_new_tokens", type=int, help=text)
    return parser


def main(cmd: list[str] | None = None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
