"""`espnet-prune data`: Kaldi-style data directories."""

from __future__ import annotations

import importlib.metadata
from argparse import ArgumentParser

from espnet_prune import __version__
from espnet_prune.cli.options import calls, sampling_rate, true_or_false, whole
from espnet_prune.data import data_dir  # of the standard library only
from espnet_prune.files import freshness


def validate(parser: ArgumentParser):
    """Check a data directory and name every fault."""
    add = parser.add_argument
    add("data_dir")
    boolean = {"type": true_or_false, "default": False, "metavar": "BOOL"}
    text = "accept a directory without a text file"
    add("--no_text", nargs="?", const=True, help=text, **boolean)

    def run(args):
        errors = data_dir.validate(args.data_dir, need_text=not args.no_text)
        if errors:
            shown = f"{args.data_dir}: {len(errors)} faults, {min(20, len(errors))} shown"
            raise ValueError("\n".join([*errors[:20], shown]))
        print(f"{args.data_dir}: valid")

    return run


def fix(parser: ArgumentParser):
    """Mend a data directory in place and tell what was dropped."""
    parser.add_argument("data_dir", help="directory to mend; the old files go to its .backup")

    def run(args):
        messages = data_dir.fix(args.data_dir)
        kept = data_dir.utterances(data_dir.read_dir(args.data_dir))
        print(*messages, f"{args.data_dir}: {len(kept)} kept", sep="\n")

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
        number = data_dir.subset(**vars(args))
        print(f"{args.target}: {number} utterances")

    return run


def combine(parser: ArgumentParser):
    """Write the union of data directories."""
    parser.add_argument("target")
    parser.add_argument("sources", nargs="+")
    return calls("data.data_dir.combine")


def split(parser: ArgumentParser):
    """Split a file by lines into parts for jobs."""
    parser.add_argument("scp", help="file to split")
    parser.add_argument("num_parts", type=int, help="number of parts")
    parser.add_argument("pattern", help="name of a part; JOB stands for its number from 1")

    def run(args):
        data_dir.split(**vars(args))

    return run


def format_(parser: ArgumentParser):
    """Write a data directory's audio as 16-bit mono at one rate, a recording an utterance."""
    add = parser.add_argument
    add("source", help="data directory")
    add("target", help="data directory to write; audio goes into its folder data")
    add("--fs", type=sampling_rate, default=16000, help="rate in Hz, or as 16k")
    text = "a file an utterance, or archives, which ESPnet reads as kaldi_ark"
    add("--audio_format", choices=data_dir.AUDIO_FORMATS, default="flac", help=text)
    add("--min_seconds", type=float, default=0.1, help="an utterance shorter than this is bad")
    text = "drop bad utterances and list them in bad_utts, instead of failing"
    add("--skip_bad", type=true_or_false, default=False, metavar="BOOL", help=text)
    text = "run commands in wav.scp (sox ... |), of which you know who wrote them, with bash"
    add("--allow_commands", type=true_or_false, default=False, metavar="BOOL", help=text)
    _add_nj(parser)
    return calls("data.formatting.format_wav")


def pack(parser: ArgumentParser):
    """Pack the utterances of a formatted data directory into windows."""
    add = parser.add_argument
    add("source", help="data directory that `data format` wrote")
    add("target", help="data directory to write, without text")
    add("--window", type=float, default=30.0, help="longest window in seconds")
    add("--gap", type=float, default=0.3, help="silence between, in seconds")
    text = "least room of a window, up to --window in seconds (default: all windows have --window)"
    add("--min_fill", type=float, help=text)
    add("--seed", type=int, default=0, help="seed of the order")
    _add_nj(parser)
    return calls("data.packing.pack")


def bpe(parser: ArgumentParser):
    """Train SentencePiece on transcripts: bpe.model and tokens.txt for ESPnet's ASR.

    Recipes do so with --token_type bpe.
    """
    parser.add_argument("text", help="'utterance transcript' lines")
    parser.add_argument("output_dir", help="directory to write")
    parser.add_argument("--nbpe", type=whole(1), required=True, help="number of pieces")
    return calls("data.bpe.train_bpe")


def slot_text(parser: ArgumentParser):
    """Write texts with slots from the tokens of snips."""
    parser.add_argument("source", help="'utterance tokens' lines, such as a recogniser's output")
    parser.add_argument("target", help="file to write, for `score slots`")
    return calls("data.corpora.snips.write_texts")


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

    An input is a file, which counts by its content (a list of audio with the audio), a directory of
    a model, data as FILE,name,type, or a word. The directory keeps a digest of its inputs in the
    file .inputs; one that holds something but no such file is refused.
    """
    parser.add_argument("directory")
    parser.add_argument("inputs", nargs="+")

    def run(args):
        freshness.claim(args.directory, freshness.named(args.inputs))

    return run


def digest(parser: ArgumentParser):
    """Print one line that changes with the inputs and with what computes.

    Inputs are as for `data fresh`; this package, ESPnet and PyTorch count by their versions.
    """
    parser.add_argument("inputs", nargs="+")

    def run(args):
        versions = [f"espnet_prune {__version__}"]
        for package in importlib.metadata.distributions():
            if package.name in ("espnet", "torch"):
                versions.append(f"{package.name} {package.version}")
        print(freshness.digest([*freshness.named(args.inputs), *sorted(versions)]))

    return run


def _add_nj(parser: ArgumentParser) -> None:
    text = "number of worker processes"
    parser.add_argument("--nj", type=int, default=1, dest="num_workers", metavar="N", help=text)


VERBS = {
    "validate": validate,
    "fix": fix,
    "subset": subset,
    "combine": combine,
    "split": split,
    "format": format_,
    "pack": pack,
    "bpe": bpe,
    "slot-text": slot_text,
    "trial-pairs": trial_pairs,
    "fresh": fresh,
    "digest": digest,
}
