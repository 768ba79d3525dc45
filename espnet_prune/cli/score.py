"""`espnet-prune score`: hypotheses against references.

Each verb writes scores.json, whose rates are fractions with the ends of their 95% bootstrap
intervals, and prints a table.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from espnet_prune.cli.options import calls, paths_by_name

HYP = "hypotheses, in the same form"


def _add(parser, *names: str, output: str = "directory for scores.json", **helps: str) -> None:
    """Add options that are files, of which `names` are required, and --output_dir."""
    for name, text in (helps | {"output_dir": output}).items():
        required = name in (*names, "output_dir")
        parser.add_argument(f"--{name}", type=Path, required=required, help=text)


def text(parser: ArgumentParser):
    """Score transcripts: WER and CER of one or two systems.

    References and hypotheses are normalised alike: by 'spoken' to lower case without punctuation,
    digits as words; by 'whisper' as Whisper's authors do, so that WERs are comparable with those
    published for Whisper. With a second system, a paired bootstrap over the utterances tests the
    difference. Each rate has a folder with the errors of each utterance: score_wer/result.txt,
    score_cer/result.txt (of a second system: result_hyp2.txt).
    """
    choices = {"choices": ("spoken", "whisper"), "default": "spoken"}
    parser.add_argument("--normalizer", help="text normaliser", **choices)
    hyp2 = "hypotheses of a second system to compare"
    _add(parser, "ref", "hyp", ref="references: 'utterance text' lines", hyp=HYP, hyp2=hyp2)
    return calls("evaluate.scoring.text.score_text")


def phones(parser: ArgumentParser):
    """Score phone recognition: phone error rate.

    Phones are compared as they are written. An utterance without hypothesis counts as deleted.
    """
    _add(parser, "ref", "hyp", ref="references: 'utterance phones' lines", hyp=HYP)
    return calls("evaluate.scoring.labels.score_phones")


def accuracy(parser: ArgumentParser):
    """Score classification: accuracy over one test set, or its mean over folds.

    The whole value behind the key is the label, so an intent with three slots is right as a
    whole. An utterance without hypothesis counts as wrong.
    """
    files = {"nargs": "+", "type": Path, "required": True}
    parser.add_argument("--ref", help="'utterance label' lines, one file a fold", **files)
    parser.add_argument("--hyp", help="hypotheses, in the same form and order", **files)
    _add(parser)
    return calls("evaluate.scoring.labels.score_accuracy")


def slots(parser: ArgumentParser):
    """Score slot filling: slot-type F1 and slot-value CER.

    A slot is marked as in 'play B-artist ella fitzgerald E-artist'. An utterance without
    hypothesis counts as one without slots.
    """
    _add(parser, "ref", "hyp", ref="references: 'utterance text' lines, slots marked", hyp=HYP)
    return calls("evaluate.scoring.labels.score_slots")


def eer(parser: ArgumentParser):
    """Score speaker verification: equal error rate.

    A trial is named 'utterance*utterance', as ESPnet names it. Its score is read from --scores, or
    is the cosine of the two embeddings of --embeddings. With --utt2spk the interval is over
    speakers; without, trials are taken for independent, and the interval is too narrow.

    SUPERB's habit is to report the checkpoint that is best on the test set; with the embeddings of
    other checkpoints, --other_embeddings, that number is eer_best_on_test.
    """
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scores", type=Path, help="'trial score' lines; higher is more alike")
    embeddings = "embed.scp of spk_inference: 'utterance file.npy' lines"
    source.add_argument("--embeddings", type=Path, help=embeddings)
    others = "embed.scp of other checkpoints"
    parser.add_argument("--other_embeddings", type=Path, nargs="+", help=others)
    trials = "'trial label' lines; a label is 1, 0, target or nontarget"
    _add(parser, "trials", trials=trials, utt2spk="'utterance speaker' lines")
    return calls("evaluate.scoring.verification.score_eer")


def der(parser: ArgumentParser):
    """Score diarisation: diarisation error rate, with overlaps and without a collar.

    The hypothesis is an RTTM file, or the frame probabilities of diar_inference. For the latter,
    threshold and median filter are chosen on the development set. SUPERB's habit is to choose them
    on the test set; that number is der_best_on_test.
    """
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--hyp", type=Path, help="hypothesised RTTM of the test set")
    source.add_argument("--posteriors", type=Path, help="diarize.scp of the test set")
    parser.add_argument("--frame_shift", type=float, help="seconds from frame to frame")
    _add(
        parser,
        "ref",
        ref="RTTM of the test set",
        dev_ref="RTTM of the development set",
        dev_posteriors="diarize.scp of the development set",
        output="directory for scores.json, and for hyp.rttm of --posteriors",
    )
    return calls("evaluate.scoring.diarization.score_der")


def twv(parser: ArgumentParser):
    """Score query-by-example search: term-weighted values.

    mtwv is the value at the threshold that is best on the test set itself, by its definition; atwv
    is the value at the threshold that is best on the development set. Of several systems (as the
    layers of an encoder) the one with the best MTWV on the development set is scored.
    """
    named = {"nargs": 2, "action": "append", "metavar": ("NAME", "FILE")}
    scores = "name of a system and its 'query document score' lines, one for each pair"
    parser.add_argument("--scores", required=True, help=scores, **named)
    dev_scores = "as --scores, of the development set"
    parser.add_argument("--dev_scores", default=[], help=dev_scores, **named)
    ref = "'query documents that hold it' lines of the test set"
    _add(parser, "ref", ref=ref, dev_ref="as --ref, of the development set")

    def run(args):
        args.scores = paths_by_name("--scores", args.scores)
        args.dev_scores = paths_by_name("--dev_scores", args.dev_scores)
        calls("evaluate.scoring.search.score_twv")(args)

    return run


VERBS = {f.__name__: f for f in (text, phones, accuracy, slots, eer, der, twv)}
