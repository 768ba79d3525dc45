"""`espnet-prune score`: hypotheses against references.

Each verb writes scores.json, whose rates are fractions with the ends of their 95% bootstrap
intervals, and prints a table.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from espnet_prune.cli.options import paths_by_name


def _files(parser: ArgumentParser, ref: str, hyp: str = "hypotheses, in the same form", **more):
    parser.add_argument("--ref", type=Path, required=True, help=ref, **more)
    parser.add_argument("--hyp", type=Path, required=True, help=hyp, **more)


def _output(parser: ArgumentParser, what: str = "directory for scores.json"):
    parser.add_argument("--output_dir", type=Path, required=True, help=what)


def _write(args, scorer) -> None:
    """Write what a scorer makes of the other options."""
    from espnet_prune.evaluate.report import write_scores

    options = {name: value for name, value in vars(args).items() if name != "output_dir"}
    write_scores(args.output_dir, **scorer(**options))


def text(parser: ArgumentParser):
    """Score transcripts: WER and CER of one or two systems.

    References and hypotheses are normalised alike: by 'spoken' to lower case without punctuation,
    digits as words; by 'whisper' as Whisper's authors do, whose WERs are comparable with published
    ones of Whisper. With a second system, a paired bootstrap over the utterances tests the
    difference.
    """
    _files(parser, "references: 'utterance text' lines")
    parser.add_argument("--hyp2", type=Path, help="hypotheses of a second system to compare")
    parser.add_argument(
        "--normalizer", choices=("spoken", "whisper"), default="spoken", help="text normaliser"
    )
    _output(
        parser,
        "directory for scores.json, score_wer/result.txt and score_cer/result.txt (of a second "
        "system: result_hyp2.txt)",
    )

    def run(args):
        from espnet_prune.evaluate.scoring.text import score_text

        print(score_text(**vars(args)))

    return run


def phones(parser: ArgumentParser):
    """Score phone recognition: phone error rate.

    Phones are compared as they are written. An utterance without hypothesis counts as deleted.
    """
    _files(parser, "references: 'utterance phones' lines")
    _output(parser)

    def run(args):
        from espnet_prune.evaluate.scoring.labels import score_phones

        _write(args, score_phones)

    return run


def accuracy(parser: ArgumentParser):
    """Score classification: accuracy over one test set, or its mean over folds.

    The whole value behind the key is the label, so an intent with three slots is right as a
    whole. An utterance without hypothesis counts as wrong.
    """
    _files(
        parser,
        "references: 'utterance label' lines, one file a fold",
        "hypotheses, in the same form and order",
        nargs="+",
    )
    _output(parser)

    def run(args):
        from espnet_prune.evaluate.scoring.labels import score_accuracy

        _write(args, score_accuracy)

    return run


def slots(parser: ArgumentParser):
    """Score slot filling: slot-type F1 and slot-value CER.

    A slot is marked as in 'play B-artist ella fitzgerald E-artist'. An utterance without
    hypothesis counts as one without slots.
    """
    _files(parser, "references: 'utterance text' lines with marked slots")
    _output(parser)

    def run(args):
        from espnet_prune.evaluate.scoring.labels import score_slots

        _write(args, score_slots)

    return run


def eer(parser: ArgumentParser):
    """Score speaker verification: equal error rate.

    A trial is named 'utterance*utterance', as ESPnet names it. Its score is read from --scores, or
    is the cosine of the two embeddings of --embeddings. With --utt2spk the interval is over
    speakers; without, trials are taken for independent, and the interval is too narrow.

    SUPERB's habit is to report the checkpoint that is best on the test set; with the embeddings of
    other checkpoints, --other_embeddings, that number is eer_best_on_test.
    """
    parser.add_argument(
        "--trials",
        type=Path,
        required=True,
        help="'trial label' lines; a label is 1, 0, target or nontarget",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scores", type=Path, help="'trial score' lines; higher is more alike")
    source.add_argument(
        "--embeddings", type=Path, help="embed.scp of spk_inference: 'utterance file.npy' lines"
    )
    parser.add_argument(
        "--other_embeddings", type=Path, nargs="+", help="embed.scp of other checkpoints"
    )
    parser.add_argument("--utt2spk", type=Path, help="'utterance speaker' lines")
    _output(parser)

    def run(args):
        from espnet_prune.evaluate.scoring.verification import score_eer

        _write(args, score_eer)

    return run


def der(parser: ArgumentParser):
    """Score diarisation: diarisation error rate, with overlaps and without a collar.

    The hypothesis is an RTTM file, or the frame probabilities of diar_inference. For the latter,
    threshold and median filter are chosen on the development set. SUPERB's habit is to choose them
    on the test set; that number is der_best_on_test.
    """
    parser.add_argument("--ref", type=Path, required=True, help="RTTM of the test set")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--hyp", type=Path, help="hypothesised RTTM of the test set")
    source.add_argument("--posteriors", type=Path, help="diarize.scp of the test set")
    parser.add_argument("--dev_ref", type=Path, help="RTTM of the development set")
    parser.add_argument("--dev_posteriors", type=Path, help="diarize.scp of the development set")
    parser.add_argument("--frame_shift", type=float, help="seconds from frame to frame")
    _output(parser, "directory for scores.json, and for hyp.rttm of --posteriors")

    def run(args):
        from espnet_prune.data.rttm import rttm_text
        from espnet_prune.evaluate.report import write_scores
        from espnet_prune.evaluate.scoring.diarization import score_posteriors, score_rttm
        from espnet_prune.files.writing import write_text

        chosen = (args.dev_ref, args.dev_posteriors, args.frame_shift)
        if args.hyp:
            if chosen != (None, None, None):
                raise ValueError("--hyp needs no development set and no --frame_shift")
            scores = score_rttm(args.ref, args.hyp)
        else:
            if None in chosen:
                raise ValueError("--posteriors needs --dev_ref, --dev_posteriors and --frame_shift")
            if not args.frame_shift > 0:
                raise ValueError(f"--frame_shift {args.frame_shift:g}: must be positive seconds")
            scores, turns = score_posteriors(args.ref, args.posteriors, *chosen)
            write_text(args.output_dir / "hyp.rttm", rttm_text(turns))
        write_scores(args.output_dir, **scores)

    return run


def twv(parser: ArgumentParser):
    """Score query-by-example search: term-weighted values.

    mtwv is the value at the threshold that is best on the test set itself, by its definition; atwv
    is the value at the threshold that is best on the development set. Of several systems (as the
    layers of an encoder) the one with the best MTWV on the development set is scored.
    """
    named = {"nargs": 2, "action": "append", "metavar": ("NAME", "FILE")}
    parser.add_argument(
        "--ref",
        type=Path,
        required=True,
        help="'query documents that hold it' lines of the test set",
    )
    parser.add_argument(
        "--scores",
        required=True,
        help="name of a system and its 'query document score' lines, one for each pair",
        **named,
    )
    parser.add_argument("--dev_ref", type=Path, help="as --ref, of the development set")
    parser.add_argument(
        "--dev_scores", default=[], help="as --scores, of the development set", **named
    )
    _output(parser)

    def run(args):
        from espnet_prune.evaluate.scoring.search import score_twv

        args.scores = paths_by_name("--scores", args.scores)
        args.dev_scores = paths_by_name("--dev_scores", args.dev_scores)
        _write(args, score_twv)

    return run


VERBS = {
    "text": text,
    "phones": phones,
    "accuracy": accuracy,
    "slots": slots,
    "eer": eer,
    "der": der,
    "twv": twv,
}
