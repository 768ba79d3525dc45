"""`espnet-prune data`: Kaldi-style data directories."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from pathlib import Path

from espnet_prune.cli.options import sampling_rate, true_or_false


def validate(parser: ArgumentParser):
    """Check a data directory and name every fault."""
    parser.add_argument("data_dir")
    parser.add_argument(
        "--no_text",
        type=true_or_false,
        nargs="?",
        const=True,
        default=False,
        metavar="BOOL",
        help="accept a directory without a text file",
    )

    def run(args):
        from espnet_prune.data import data_dir

        errors = data_dir.validate(args.data_dir, need_text=not args.no_text)
        for line in errors[:20]:
            print(line, file=sys.stderr)
        if errors:
            raise ValueError(f"{args.data_dir}: {len(errors)} faults, {min(20, len(errors))} shown")
        print(f"{args.data_dir}: valid")

    return run


def fix(parser: ArgumentParser):
    """Mend a data directory in place and tell what was dropped."""
    parser.add_argument("data_dir", help="directory to mend; the old files go to its .backup")

    def run(args):
        from espnet_prune.data import data_dir

        _print(*data_dir.fix(args.data_dir))
        print(f"{args.data_dir}: {len(data_dir.utterances(data_dir.read_dir(args.data_dir)))} kept")

    return run


def subset(parser: ArgumentParser):
    """Write a part of a data directory."""
    parser.add_argument("source")
    parser.add_argument("target")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--first", type=int, metavar="N", help="take the first N utterances")
    which.add_argument("--utt_list", metavar="FILE", help="take the utterances in FILE, one a line")
    which.add_argument("--random", type=int, metavar="N", help="draw N utterances by a hash")
    parser.add_argument("--seed", type=int, default=0, help="seed of --random")

    def run(args):
        from espnet_prune.data import data_dir

        number = data_dir.subset(**vars(args))
        print(f"{args.target}: {number} utterances")

    return run


def combine(parser: ArgumentParser):
    """Write the union of data directories."""
    parser.add_argument("target")
    parser.add_argument("sources", nargs="+")

    def run(args):
        from espnet_prune.data import data_dir

        _print(*data_dir.combine(args.target, args.sources))

    return run


def split(parser: ArgumentParser):
    """Split a file by lines into parts for jobs."""
    parser.add_argument("scp", help="file to split")
    parser.add_argument("num_parts", type=int, help="number of parts")
    parser.add_argument("pattern", help="name of a part; JOB stands for its number from 1")

    def run(args):
        from espnet_prune.data import data_dir

        data_dir.split(args.scp, args.num_parts, args.pattern)

    return run


def format_(parser: ArgumentParser):
    """Write a data directory's audio as 16-bit mono files at one rate, a file an utterance."""
    parser.add_argument("source", help="data directory")
    parser.add_argument("target", help="data directory to write; audio goes into its folder data")
    parser.add_argument("--fs", type=sampling_rate, default=16000, help="rate in Hz, or as 16k")
    parser.add_argument("--audio_format", choices=("flac", "wav"), default="flac")
    parser.add_argument(
        "--min_seconds", type=float, default=0.1, help="an utterance shorter than this is bad"
    )
    parser.add_argument(
        "--skip_bad",
        type=true_or_false,
        default=False,
        metavar="BOOL",
        help="drop bad utterances and list them in bad_utts, instead of failing",
    )
    _add_nj(parser)

    def run(args):
        from espnet_prune.data.formatting import format_wav

        for line in format_wav(**vars(args)).lines():
            print(f"{args.target}: {line}")

    return run


def pack(parser: ArgumentParser):
    """Pack the utterances of a formatted data directory into windows."""
    parser.add_argument("source", help="data directory that `data format` wrote")
    parser.add_argument("target", help="data directory to write, without text")
    parser.add_argument("--window", type=float, default=30.0, help="longest window in seconds")
    parser.add_argument("--gap", type=float, default=0.3, help="silence between, in seconds")
    parser.add_argument(
        "--min_fill",
        type=float,
        help="minimum room of a window in seconds; rooms spread evenly from it to --window "
        "(default: every window has all of --window)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the order")
    _add_nj(parser)

    def run(args):
        from espnet_prune.data.packing import pack

        for line in pack(**vars(args)).lines():
            print(f"{args.target}: {line}")

    return run


def slot_text(parser: ArgumentParser):
    """Write texts with slots from the tokens of snips."""
    parser.add_argument("source", help="'utterance tokens' lines, such as a recogniser's output")
    parser.add_argument("target", help="file to write, for `score slots`")

    def run(args):
        from espnet_prune.data.corpora.snips import write_texts

        write_texts(args.source, args.target)

    return run


def trial_pairs(parser: ArgumentParser):
    """Write the trials that ESPnet's task spk reads."""
    parser.add_argument("source", help="data directory that `data format` wrote")
    parser.add_argument("trials", help="'utterance*utterance label' lines")
    parser.add_argument("target", help="data directory to write, with a line for each trial")

    def run(args):
        from espnet_prune.data.corpora.voxceleb import pair_up

        print(f"{args.target}: {pair_up(args.source, args.trials, args.target)} trials")

    return run


def fresh(parser: ArgumentParser):
    """Stop when a directory was made from other inputs than these, and note them when it is new.

    An input is a file, which counts by its content, or a word. The directory keeps a digest of its
    inputs in the file .inputs; where it holds something but no such file, nothing is checked.
    """
    parser.add_argument("directory")
    parser.add_argument("inputs", nargs="+")

    def run(args):
        from espnet_prune.files.freshness import claim

        claim(args.directory, _files_or_words(args.inputs))

    return run


def digest(parser: ArgumentParser):
    """Print one line that changes with the inputs: files by content, or words."""
    parser.add_argument("inputs", nargs="+")

    def run(args):
        from espnet_prune.files.freshness import digest

        print(digest(_files_or_words(args.inputs)))

    return run


def _add_nj(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--nj",
        type=int,
        default=1,
        dest="num_workers",
        metavar="N",
        help="number of worker processes",
    )


def _files_or_words(inputs: list[str]) -> list[Path | str]:
    return [Path(each) if os.path.isfile(each) else each for each in inputs]


def _print(*lines: str) -> None:
    for line in lines:
        print(line)


VERBS = {
    "validate": validate,
    "fix": fix,
    "subset": subset,
    "combine": combine,
    "split": split,
    "format": format_,
    "pack": pack,
    "slot-text": slot_text,
    "trial-pairs": trial_pairs,
    "fresh": fresh,
    "digest": digest,
}
