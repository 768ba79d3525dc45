"""Command line of the recipe's data side: ``python -m espnet_prune.recipe COMMAND ...``."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys

# Each command imports what it needs when it runs, so that the light ones start at once.


def _bool(value: str) -> bool:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise argparse.ArgumentTypeError(f"'{value}' is neither true nor false")


def _rate(value: str) -> int:
    """A sampling rate in Hz, also in ESPnet's way of writing it: 16000 or 16k."""
    try:
        return int(float(value[:-1]) * 1000) if value.endswith("k") else int(value)
    except ValueError:
        text = f"'{value}' is no sampling rate, such as 16000 or 16k"
        raise argparse.ArgumentTypeError(text) from None


def _validate(args: argparse.Namespace) -> None:
    from espnet_prune.data import data_dir

    errors = data_dir.validate(args.data_dir, need_text=not args.no_text)
    for line in errors[:20]:
        print(line, file=sys.stderr)
    if errors:
        raise ValueError(f"{args.data_dir}: {len(errors)} faults, {min(20, len(errors))} shown")
    print(f"{args.data_dir}: valid")


def _fix(args: argparse.Namespace) -> None:
    from espnet_prune.data import data_dir

    for line in data_dir.fix(args.data_dir):
        print(line)
    print(f"{args.data_dir}: {len(data_dir.utterances(data_dir.read_dir(args.data_dir)))} kept")


def _subset(args: argparse.Namespace) -> None:
    from espnet_prune.data import data_dir

    number = data_dir.subset(
        args.source,
        args.target,
        first=args.first,
        utt_list=args.utt_list,
        random=args.random,
        seed=args.seed,
    )
    print(f"{args.target}: {number} utterances")


def _combine(args: argparse.Namespace) -> None:
    from espnet_prune.data import data_dir

    for line in data_dir.combine(args.target, args.sources):
        print(line)


def _split(args: argparse.Namespace) -> None:
    from espnet_prune.data import data_dir

    data_dir.split(args.scp, args.num_parts, args.pattern)


def _format_wav(args: argparse.Namespace) -> None:
    from espnet_prune.data.formatting import format_wav

    summary = format_wav(
        args.source,
        args.target,
        fs=args.fs,
        audio_format=args.audio_format,
        min_seconds=args.min_seconds,
        skip_bad=args.skip_bad,
        num_workers=args.nj,
    )
    for line in summary.lines():
        print(f"{args.target}: {line}")


def _pack(args: argparse.Namespace) -> None:
    from espnet_prune.data.packing import pack

    summary = pack(
        args.source,
        args.target,
        window=args.window,
        gap=args.gap,
        seed=args.seed,
        min_fill=args.min_fill,
        num_workers=args.nj,
    )
    for line in summary.lines():
        print(f"{args.target}: {line}")


def _voice_prompts(args: argparse.Namespace) -> None:
    from espnet_prune.data.corpora.voice_prompts import prepare

    for name, number in prepare(args.out_dir, args.download_dir, args.audio_dir).items():
        print(f"{args.out_dir}/{name}: {number} utterances")


def _librispeech(args: argparse.Namespace) -> None:
    from espnet_prune.data.corpora.librispeech import prepare

    for name, number in prepare(args.corpus, args.out_dir, args.train_hours).items():
        print(f"{args.out_dir}/{name}: {number} utterances")


def _librispeech_superb(args: argparse.Namespace) -> None:
    from espnet_prune.data.corpora.librispeech_superb import prepare

    for name, number in prepare(args.corpus, args.out_dir, args.lexicon).items():
        print(f"{args.out_dir}/{name}: {number} utterances")


def _snips(args: argparse.Namespace) -> None:
    from espnet_prune.data.corpora.snips import prepare

    for name, number in prepare(args.corpus, args.out_dir).items():
        print(f"{args.out_dir}/{name}: {number} utterances")


def _slot_text(args: argparse.Namespace) -> None:
    from espnet_prune.data.corpora.snips import write_texts

    write_texts(args.source, args.target)


def _voxceleb_trials(args: argparse.Namespace) -> None:
    from espnet_prune.data.corpora.voxceleb_trials import prepare

    for name, number in prepare(args.corpus, args.out_dir, args.trials, args.held_out).items():
        print(f"{args.out_dir}/{name}: {number} utterances")


def _trial_pairs(args: argparse.Namespace) -> None:
    from espnet_prune.data.corpora.voxceleb_trials import pair_up

    print(f"{args.target}: {pair_up(args.source, args.trials, args.target)} trials")


def _librimix(args: argparse.Namespace) -> None:
    from espnet_prune.data.corpora.librimix import prepare

    for name, number in prepare(args.corpus, args.out_dir, args.rttm_dir).items():
        print(f"{args.out_dir}/{name}: {number} mixtures")


def _quesst14(args: argparse.Namespace) -> None:
    from espnet_prune.data.corpora.quesst14 import prepare

    for name, number in prepare(args.corpus, args.out_dir).items():
        print(f"{args.out_dir}/{name}: {number} recordings")


def _labelled(module: str, function: str, *arguments: str):
    """A command that calls a corpus' function with these arguments and tells of the sets."""

    def command(args: argparse.Namespace) -> None:
        prepare = getattr(importlib.import_module(f"espnet_prune.data.corpora.{module}"), function)
        for name, number in prepare(*(getattr(args, each) for each in arguments)).items():
            print(f"{args.out_dir}/{name}: {number} utterances")

    return command


def _model_name(args: argparse.Namespace) -> None:
    from espnet_prune.plugin.training_config import model_name

    print(model_name(args.teacher))


def _removed_share(args: argparse.Namespace) -> None:
    from espnet_prune.plugin.training_config import removed_share

    print(f"{round(removed_share(args.pruned), 2):g}")


def _spread_updates(args: argparse.Namespace) -> None:
    from espnet_prune.plugin.training_config import write_spread

    write_spread(args.source, args.target, args.gpus, args.accum_grad)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet_prune.recipe",
        description="Data directories, audio formatting and jobs for shell recipes.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, function, summary):
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        command.set_defaults(function=function)
        return command

    command = add("validate", _validate, "check a data directory and name every fault")
    command.add_argument("data_dir")
    command.add_argument(
        "--no_text",
        type=_bool,
        nargs="?",
        const=True,
        default=False,
        metavar="BOOL",
        help="do not ask for a text file",
    )

    command = add("fix", _fix, "mend a data directory in place and tell what was dropped")
    command.add_argument("data_dir", help="its files as they were go into its folder .backup")

    command = add("subset", _subset, "write a part of a data directory")
    command.add_argument("source")
    command.add_argument("target")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--first", type=int, metavar="N", help="the first N utterances")
    which.add_argument("--utt_list", metavar="FILE", help="the utterances in FILE, one a line")
    which.add_argument("--random", type=int, metavar="N", help="N utterances by a hash with --seed")
    command.add_argument("--seed", type=int, default=0, help="for --random")

    command = add("combine", _combine, "write the union of data directories")
    command.add_argument("target")
    command.add_argument("sources", nargs="+")

    command = add("split", _split, "split a file by lines into parts for jobs")
    command.add_argument("scp", help="file to split")
    command.add_argument("num_parts", type=int, help="number of parts")
    command.add_argument("pattern", help="name of a part, with JOB for its number from 1")

    command = add("format_wav", _format_wav, "write 16 bit mono audio at one rate, resampling")
    command.add_argument("source", help="data directory")
    command.add_argument("target", help="data directory to write; audio goes into its folder data")
    command.add_argument("--fs", type=_rate, default=16000, help="sampling rate in Hz, or as 16k")
    command.add_argument("--audio_format", choices=("flac", "wav"), default="flac", help="format")
    command.add_argument(
        "--min_seconds", type=float, default=0.1, help="shorter utterances are bad"
    )
    command.add_argument(
        "--skip_bad",
        type=_bool,
        default=False,
        metavar="BOOL",
        help="drop bad utterances and list them in bad_utts, instead of failing",
    )
    command.add_argument("--nj", type=int, default=1, help="number of worker processes")

    command = add("pack", _pack, "pack the utterances of a formatted data directory into windows")
    command.add_argument("source", help="data directory written by format_wav")
    command.add_argument("target", help="data directory to write, without text")
    command.add_argument("--window", type=float, default=30.0, help="longest window in seconds")
    command.add_argument("--gap", type=float, default=0.3, help="silence between, in seconds")
    command.add_argument(
        "--min_fill",
        type=float,
        help="windows have room for at least this many seconds, evenly spread up to --window, "
        "instead of all of it",
    )
    command.add_argument("--seed", type=int, default=0, help="seed of the order")
    command.add_argument("--nj", type=int, default=1, help="number of worker processes")

    command = add(
        "voice_prompts", _voice_prompts, "prepare data directories from Debian's voice prompts"
    )
    command.add_argument(
        "out_dir", help="gets train_ssl, valid_ssl and, with transcripts, train_en, dev_en, test_en"
    )
    command.add_argument("--download_dir", default="downloads", help="for the Debian packages")
    command.add_argument(
        "--audio_dir",
        help=".wav, .flac, .ogg and .mp3 files below it are taken instead of the prompts; "
        "x.txt beside x.wav is its English transcript",
    )

    command = add("librispeech", _librispeech, "prepare data directories from LibriSpeech")
    command.add_argument("corpus", help="directory that holds LibriSpeech/dev-clean and so on")
    command.add_argument(
        "out_dir", help="gets dev, train_960 (for 960 hours) and a directory for each subset"
    )
    command.add_argument(
        "--train_hours", type=int, choices=(960, 100), default=960, help="training subsets wanted"
    )

    command = add(
        "librispeech_superb", _librispeech_superb, "prepare data directories of SUPERB's PR and ASR"
    )
    command.add_argument("corpus", help="directory that holds LibriSpeech/dev-clean and so on")
    command.add_argument("out_dir", help="gets train_clean_100, dev_clean and test_clean")
    command.add_argument(
        "--lexicon",
        nargs="+",
        default=(),
        metavar="FILE",
        help="'WORD PHONE PHONE …' lines: transcripts become phones, the first ones of a word",
    )

    command = add("snips", _snips, "prepare data directories from Audio SNIPS (SUPERB's SF)")
    command.add_argument("corpus", help="directory that holds all.iob.snips.txt")
    command.add_argument("out_dir", help="gets train, valid and test")

    command = add("slot_text", _slot_text, "write texts with slots from the tokens of snips")
    command.add_argument("source", help="'utterance tokens' lines, such as a recogniser's output")
    command.add_argument("target", help="file to write, for espnet_prune.bin.score_slots")

    command = add(
        "voxceleb_trials", _voxceleb_trials, "prepare speaker verification from VoxCeleb1"
    )
    command.add_argument("corpus", help="directory that holds dev/wav, test/wav and veri_test.txt")
    command.add_argument("out_dir", help="gets train, dev and test, the latter two with trials")
    command.add_argument("--trials", help="list of the test trials, instead of the corpus's own")
    command.add_argument(
        "--held_out",
        type=int,
        default=40,
        metavar="N",
        help="training speakers to make development trials of instead",
    )

    command = add("trial_pairs", _trial_pairs, "write the trials that ESPnet's task spk reads")
    command.add_argument("source", help="data directory written by format_wav")
    command.add_argument("trials", help="'utterance*utterance label' lines")
    command.add_argument("target", help="data directory to write, with a line for each trial")

    command = add("librimix", _librimix, "prepare speaker diarisation from Libri2Mix")
    command.add_argument("corpus", help="directory that holds Libri2Mix/wav16k/max")
    command.add_argument("out_dir", help="gets train, dev and test, with rttm and frame_labels")
    command.add_argument(
        "--rttm_dir",
        help="alignments of LibriSpeech, train_clean_100.rttm and so on; by default those in "
        "metadata/LibriSpeech of the corpus",
    )

    command = add("quesst14", _quesst14, "prepare query-by-example search from QUESST 2014")
    command.add_argument("corpus", help="directory that holds quesst14Database")
    command.add_argument("out_dir", help="gets documents, dev and eval, the latter two with ref")

    corpus_and_out = ("corpus", "out_dir")
    for name, function, summary, corpus, sets in (
        (
            "fsdd_digits",
            _labelled("fsdd", "prepare_digits", *corpus_and_out),
            "prepare digit recognition from the Free Spoken Digit Dataset",
            "directory of the recordings",
            "train_foldN, valid_foldN and test_foldN, test_foldN of the N-th speaker alone",
        ),
        (
            "fsdd_speakers",
            _labelled("fsdd", "prepare_speakers", *corpus_and_out),
            "prepare speaker identification from the Free Spoken Digit Dataset",
            "directory of the recordings",
            "train, valid and test",
        ),
        (
            "fsc",
            _labelled("fsc", "prepare", *corpus_and_out),
            "prepare intent classification from Fluent Speech Commands",
            "directory that holds data and wavs",
            "train, valid and test, labels are action+object+location",
        ),
        (
            "iemocap",
            _labelled("iemocap", "prepare", *corpus_and_out),
            "prepare emotion recognition in five folds from IEMOCAP",
            "directory that holds Session1 to Session5",
            "train_foldN, valid_foldN and test_foldN, test_foldN of session N alone",
        ),
    ):
        command = add(name, function, summary)
        command.add_argument("corpus", help=corpus)
        command.add_argument("out_dir", help=f"gets {sets}")

    command = add(
        "speechcommands",
        _labelled("speechcommands", "prepare", "corpus", "test", "out_dir"),
        "prepare keyword spotting with 12 classes from Speech Commands v0.01",
    )
    command.add_argument("corpus", help="directory of the words and of _background_noise_")
    command.add_argument("test", help="directory of the official test set, a folder a class")
    command.add_argument("out_dir", help="gets train, valid and test, and seconds of silence")

    command = add(
        "voxceleb_speakers",
        _labelled("voxceleb", "prepare", "corpus", "out_dir", "split"),
        "prepare speaker identification from VoxCeleb1",
    )
    command.add_argument("corpus", help="directory that holds dev/wav, test/wav and iden_split.txt")
    command.add_argument("out_dir", help="gets train, valid and test")
    command.add_argument("--split", help="the official split, instead of the corpus's own")

    command = add(
        "voice_languages",
        _labelled("voice_languages", "prepare", "out_dir", "download_dir"),
        "prepare language identification from Debian's voice prompts",
    )
    command.add_argument("out_dir", help="gets train, dev and test")
    command.add_argument("--download_dir", default="downloads", help="for the Debian packages")

    command = add("model_name", _model_name, "print the name that a teacher's config has")
    command.add_argument("teacher", help="hub name or directory")

    command = add("removed_share", _removed_share, "print the sparsity of a pruned encoder")
    command.add_argument("pruned", help="directory of the encoder")

    command = add("spread_updates", _spread_updates, "write a config for several GPUs")
    command.add_argument("source", help="config for one GPU")
    command.add_argument("target", help="config to write, with the same audio in an update")
    command.add_argument("--gpus", type=int, default=1, help="number of GPUs on all nodes")
    command.add_argument(
        "--accum_grad", type=int, help="forward passes of an update, instead of as many as are due"
    )

    # Only for the list of commands: Kaldi's interface is not argparse's, see main.
    commands.add_parser("jobs", help="run commands as jobs, as run.pl and slurm.pl do")
    return parser


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] == "jobs":
        from espnet_prune.plugin import jobs

        return jobs.main(argv[1:])
    args = get_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        args.function(args)
    except (ValueError, OSError) as error:
        *lines, last = str(error).split("\n")
        for line in lines:
            print(line, file=sys.stderr)
        print(f"error: {last}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
