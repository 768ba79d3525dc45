"""Answer the questions of a data directory with a speech LLM whose audio tokens are pruned.

The data directory has wav.scp and questions (text for the transcript, and utt2num_samples to find
recordings that end early, if they are there). Without --strategies there is one condition, that of
token_pruner and token_pruner_conf. With --strategies and --rates there are all of their pairs, and
beside them the whole recording, its first 30 s, its transcript if there is text, the words that
the model's own recogniser hears if it has one, and no audio at all; each recording goes through the
audio encoder once.

Writes OUTPUT_DIR/answers.NAME.jsonl, where NAME is that of the key file: for every item and
condition the score of every choice (or, with --protocol letter, what the model said), the chosen
one, and which audio tokens were kept (`espnet_prune.evaluate.sir.answers` has the format). A job
that was stopped goes on where it was, also with another split.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from espnet_prune.cli import errors
from espnet_prune.cli.sir import add_inference, inference_settings


def get_parser() -> argparse.ArgumentParser:
    """The parser, as in every `espnet2.bin`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_inference(parser)
    parser.add_argument("--key_file", help="items to answer, one a line (default: all of wav.scp)")
    parser.add_argument("--output_dir", type=Path, help="directory for answers.NAME.jsonl")
    return parser


def run(args: argparse.Namespace) -> None:
    from espnet_prune.evaluate.sir.inference import answer_questions

    answer_questions(inference_settings(args, "output_dir"), args.output_dir, args.key_file)


def main(cmd: list[str] | None = None) -> None:
    errors.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
