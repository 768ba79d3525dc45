"""Make the data directory of a set of SIR items: speak them, or take recordings of them.

Items are JSONL files in SPIRAL's format. They are spoken by voices of Flite and eSpeak NG, each
speaker of an item by another one, and the time of every sentence is kept; OUTPUT_DIR_windows gets
windows of whole sentences, so that Whisper can check the speech. With --audio_dir ID.wav or ID.flac
of every item is taken instead, and there are no times; then a row may lack its key sentence.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from espnet_prune.cli import errors as cli
from espnet_prune.data.sir.directory import (
    read_all_items,
    spread,
    windows_dir,
    write_part,
    write_recorded_dir,
    write_windows,
)
from espnet_prune.data.sir.speech import write_data_dir
from espnet_prune.data.voices import Voices
from espnet_prune.speech_llm.compact.windows import EVALUATION_VOICES

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> None:
    spoken = args.audio_dir is None and args.part_of is None
    items = read_all_items(args.items, keys=spoken)
    if args.first is not None:
        if args.first < 1:
            raise ValueError(f"--first is {args.first}; give 1 or more")
        items = spread(items, args.first)
    if args.part_of is not None:
        write_part(args.part_of, args.output_dir, [item.id for item in items])
        logger.info("%s: %d items of %s", args.output_dir, len(items), args.part_of)
        return
    if args.audio_dir is not None:
        write_recorded_dir(items, args.audio_dir, args.output_dir, args.nj)
        logger.info("%s: %d items", args.output_dir, len(items))
        return
    speak, voices = Voices(args.work), args.voices.split()
    for voice in voices:  # fetches what is needed once, before there are workers
        speak("Good morning.", voice)
    seconds = write_data_dir(items, speak, voices, args.output_dir, args.nj)
    number = write_windows(args.output_dir, items, windows_dir(args.output_dir))
    logger.info(
        "%s: %d items, %.1f minutes, %d windows", args.output_dir, len(items), seconds / 60, number
    )


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--items", type=Path, nargs="+", required=True, metavar="JSONL", help="files of items")
    add("--output_dir", type=Path, required=True, help="data directory to write")
    add(
        "--voices",
        default=" ".join(EVALUATION_VOICES),
        help="of Flite and eSpeak NG, with blanks between; by default those "
        "that the compact speech LLM is not trained on",
    )
    add("--work", type=Path, default=Path("downloads"), help="where Flite is unpacked")
    add("--audio_dir", type=Path, help="recordings of the items")
    add("--part_of", type=Path, help="data directory that has all of the items already")
    add("--first", type=int, metavar="N", help="only N items, spread over the files")
    add("--nj", type=int, default=1, help="number of worker processes")
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
