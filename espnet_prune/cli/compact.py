"""`espnet-prune compact`: the steps around the training of the compact speech LLM.

The recipe egs2/speech_llm/compact1 calls them in order; the trainings themselves are
`bin.speech_llm_ctc_train` and `bin.speech_llm_lora_train`.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path


def text(parser: ArgumentParser):
    """Have a language model write passages to speak, a JSON list of sentences a line."""
    add = parser.add_argument
    add("--language_model", type=Path, required=True, help="directory of a chat model")
    add("--hours", type=float, default=9.0, help="hours of speech to train on")
    add("--held_out", type=int, default=60, help="further passages, to validate and test on")
    add("--output", type=Path, required=True, help="file to write; a stopped run is continued")
    _seed(parser, "subjects and words")
    _ngpu(parser)

    def run(args):
        import json

        from espnet_prune.speech_llm.compact.passages import write_hours

        device = "cuda" if args.ngpu else "cpu"
        found = write_hours(
            args.language_model, args.hours, args.held_out, args.output, args.seed, device
        )
        print(json.dumps(found))

    return run


def words(parser: ArgumentParser):
    """Write what few written passages contain, to be spoken as well, a passage a line in JSON.

    These are lists of the commonest words, and texts of a dictionary chosen so that together they
    have these words often and many others.
    """
    add = parser.add_argument
    add("--language_model", type=Path, required=True, help="directory of the language model")
    _tools(parser, "word list and texts")
    add("--most", type=int, default=12000, help="number of common words: tokens of the model")
    add("--times", type=int, default=10, help="times that each is in a list; 0: no lists")
    add("--text_times", type=int, default=8, help="times that texts should have it; 0: no texts")
    add("--other_times", type=int, default=1, help="times that texts should have any other word")
    add("--output", type=Path, required=True, help="file to write")
    _seed(parser, "the order")

    def run(args):
        from espnet_prune.speech_llm.compact.words import write_lists

        found = write_lists(
            args.language_model,
            args.tools_dir,
            args.output,
            args.most,
            args.times,
            args.text_times,
            args.other_times,
            args.seed,
        )
        print(f"{args.output}: {found}")

    return run


def speech(parser: ArgumentParser):
    """Speak passages into the data directories train, valid and test.

    Train and valid are spoken by the training voices, test by voices that training never hears; the
    passages of the three are different ones.
    """
    add = parser.add_argument
    add("--passages", type=Path, required=True, help="file with a JSON list of sentences a line")
    add("--word_lists", type=Path, help="another such file, without facts, for train only")
    add("--output_dir", type=Path, required=True, help="directory for train, valid and test")
    _tools(parser, "packages of voices")
    add("--held_out", type=int, default=60, help="first passages, half for valid, half for test")
    add("--fact_share", type=float, default=0.5, help="share of windows with a question")
    add("--voices", help="training voices, with blanks between")
    add("--test_voices", help="voices of test, with blanks between")
    _seed(parser, "facts and their places")
    add("--nj", type=int, default=1, help="number of worker processes")

    def run(args):
        from espnet_prune.speech_llm.compact import windows

        for line in windows.speak_parts(
            args.passages,
            args.word_lists,
            args.output_dir,
            args.tools_dir,
            args.voices.split() if args.voices else windows.TRAINING_VOICES,
            args.test_voices.split() if args.test_voices else windows.EVALUATION_VOICES,
            args.held_out,
            args.fact_share,
            args.seed,
            args.nj,
        ):
            print(line)

    return run


def tokens(parser: ArgumentParser):
    """Find the tokens that the adapter spells a training text with: few, and each in many words.

    They are the classes of the adapter. With all merges of the language model's byte-pair table
    most words are tokens of their own, which have to be heard dozens of times each; see
    `espnet_prune.speech_llm.compact.pieces`.
    """
    add = parser.add_argument
    add("--language_model", type=Path, required=True, help="directory of the language model")
    add("--words", type=Path, required=True, help="table with the words of the training windows")
    add("--merges", type=int, default=0, help="merges of the byte-pair table to use (0: all)")
    add("--output", type=Path, required=True, help="JSON file to write")

    def run(args):
        from espnet_prune.data.data_dir import read_table
        from espnet_prune.speech_llm.compact.pieces import write_pieces

        texts = list(read_table(args.words).values())
        found = write_pieces(args.language_model, texts, args.merges, args.output)
        print(f"{args.output}: {found}")

    return run


def start(parser: ArgumentParser):
    """Take a compact speech LLM that is there, to train its LoRA further.

    Writes what `compact tokens` and the training of the adapter make otherwise: the tokens that the
    adapter tells apart, and the weights that the training of LoRA begins with.
    """
    add = parser.add_argument
    add("--model", type=Path, required=True, help="directory of the compact speech LLM")
    add("--language_model", type=Path, required=True, help="directory of its language model")
    add("--merges", type=int, default=0, help="--merges of `compact tokens` when it was trained")
    add("--pieces", type=Path, required=True, help="JSON file to write")
    add("--weights", type=Path, required=True, help="file to write, for --init_param")

    def run(args):
        from espnet_prune.speech_llm.compact.start import write_start

        number = write_start(
            args.model, args.language_model, args.merges, args.pieces, args.weights
        )
        print(f"{args.weights}: {number / 1e6:.1f} million weights")

    return run


def features(parser: ArgumentParser):
    """Give the windows of a data directory to a frozen encoder, and write what training reads.

    Into the output directory go feats/ID.npy, (T, D) in float16 at 25 Hz; ctc/ with feats.scp,
    feats_shape and words; lora/ with recordings of some windows each, feats.scp, feats_shape,
    prompt and answer. Windows that an earlier run has done with the same encoder are kept.
    """
    add = parser.add_argument
    add("--encoder", type=Path, required=True, help="directory of a dense or pruned encoder")
    add("--data_dir", type=Path, required=True, help="with wav.scp, text, words and questions")
    add("--output_dir", type=Path, required=True, help="directory to write")
    add("--seconds", type=float, default=50.0, help="longest recording for LoRA, in seconds")
    _seed(parser, "the recordings' lengths")
    add(
        "--dtype",
        choices=("float32", "bfloat16", "auto"),
        default="auto",
        help="type that the encoder computes in; auto: bfloat16 where that is fast",
    )
    _ngpu(parser)

    def run(args):
        from espnet_prune.speech_llm.compact.features import write_features

        found = write_features(
            args.encoder,
            args.data_dir,
            args.output_dir,
            args.seconds,
            args.seed,
            args.dtype,
            "cuda" if args.ngpu else "cpu",
        )
        print(f"{args.output_dir}: {found}")

    return run


def export(parser: ArgumentParser):
    """Turn the training directory of LoRA into the directory of a compact speech LLM.

    It holds the weights of adapter and LoRA in float16, and the names of encoder and language
    model; see `espnet_prune.speech_llm.compact.model`.
    """
    add = parser.add_argument
    add("--train_dir", type=Path, required=True, help="training directory")
    add("--model_file", default="valid.loss.best.pth", help="weights in it")
    add("--output_dir", type=Path, required=True, help="directory to write")
    add(
        "--lora",
        choices=("trained", "none"),
        default="trained",
        help="none: the language model as it was, to see what LoRA brings",
    )

    def run(args):
        from espnet_prune.plugin.tasks.speech_llm import export

        print(export(args.train_dir, args.model_file, args.output_dir, args.lora == "trained"))

    return run


def report(parser: ArgumentParser):
    """Ask a compact speech LLM about held-out windows: what its adapter hears, what it answers.

    Word error rate of the adapter's best CTC paths, and the share of questions whose right choice
    is the likeliest: from the audio, instead from the transcript (upper bound) or the words of
    those paths, and from nothing.
    """
    add = parser.add_argument
    add("--model", type=Path, help="directory of the compact speech LLM (default: the recipe's)")
    add("--data_dir", type=Path, required=True, help="with wav.scp, text and questions")
    add("--most", type=int, default=200, help="largest number of windows")
    add("--encoder", type=Path, help="directory, instead of the model's own")
    add("--language_model", type=Path, help="directory, instead of the model's own")
    add("--device", default="cpu", help="cpu or cuda")
    add("--output", type=Path, required=True, help="Markdown file to write; .json beside it")

    def run(args):
        from espnet_prune.evaluate.compact import write_report
        from espnet_prune.speech_llm import Compact

        if args.most < 1:
            raise ValueError(f"--most is {args.most}, but has to be positive")
        llm = Compact.from_pretrained(args.model, args.device, args.encoder, args.language_model)
        print(write_report(llm, args.data_dir, args.most, args.output))

    return run


def _seed(parser: ArgumentParser, what: str) -> None:
    parser.add_argument("--seed", type=int, default=0, help=f"seed of {what}")


def _ngpu(parser: ArgumentParser) -> None:
    parser.add_argument("--ngpu", type=int, default=0, help="number of GPUs (0: the CPU)")


def _tools(parser: ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--tools_dir", type=Path, required=True, help=f"folder in which {what} are unpacked"
    )


VERBS = {
    "text": text,
    "words": words,
    "speech": speech,
    "tokens": tokens,
    "start": start,
    "features": features,
    "export": export,
    "report": report,
}
