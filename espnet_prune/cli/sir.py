"""`espnet-prune sir`: Speech Information Retrieval, and the options of `bin.sir_inference`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from espnet_prune.cli.options import SPEECH_LLMS, KeyValues, calls, fill_from_config


def data(parser: ArgumentParser):
    """Make the data directory of a set of SIR items: speak them, or take recordings of them.

    Items are JSONL files in SPIRAL's format. Each speaker of an item gets another voice, and the
    time of every sentence is kept. Voices sound like people, unless --voices names those of Flite
    (slt awb rms kal) or eSpeak NG (en-us, en+f2). Kokoro's (kokoro-jm_kumo, mixtures such as
    kokoro-jf_alpha+jm_kumo) sound like people, too, and take as long as they speak.
    OUTPUT_DIR_windows gets segments of whole sentences for a check of the speech by Whisper. With
    --audio_dir ID.wav or ID.flac of every item is taken instead; then times are not known, and a
    row may lack its key sentence.
    """
    add = parser.add_argument
    add("--items", type=Path, nargs="+", required=True, metavar="JSONL", help="files of items")
    add("--output_dir", type=Path, required=True, help="data directory to write")
    add(
        "--voices",
        type=str.split,
        help="voices, with blanks between (default: hibari, joe, and both at other pitches)",
    )
    add(
        "--work",
        type=Path,
        default=Path("downloads"),
        help="folder in which Flite and Kokoro are unpacked",
    )
    add("--audio_dir", type=Path, help="recordings of the items, instead of speaking them")
    add("--part_of", type=Path, help="data directory that has all of the items already")
    add("--first", type=int, metavar="N", help="take N items only, spread over the files")
    add("--nj", type=int, default=1, help="number of worker processes")

    return calls("data.sir.directory.make_data_dir")


def score(parser: ArgumentParser):
    """Score the answers of sir_inference: tables, tests and plots over strategies and rates.

    Baselines and upper bounds stand beside the accuracies: chance, always taking the most frequent
    letter, no audio, and the transcript instead of the audio. The likeliest choice is taken. Where
    there are answers without audio, a second table takes the choice whose likelihood the audio
    raises most (pointwise mutual information, PMI). Answers by the protocol `letter` have a table
    of their own; one that names no choice is wrong. Where the data directory knows the times of the
    key sentences (its file `sentences`), evidence recall is given as well. Writes RESULTS.md,
    scores.json and images/ in OUTPUT_DIR, and shows the figure that `sir tsne` has left there.
    """
    add = parser.add_argument
    add("--data_dir", type=Path, required=True, help="data directory of the questions")
    add(
        "--answers",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="directory with answers.*.jsonl; one for each protocol, to have them side by side",
    )
    add("--output_dir", type=Path, required=True, help="directory to write")
    add("--title", default="Speech information retrieval", help="title of RESULTS.md")
    add("--command", default="", help="command that made the answers, shown in RESULTS.md")
    add("--wer", type=Path, help="scores.json of `score text`: Whisper's WER on the speech")

    return calls("evaluate.sir.report.write_report")


def compare(parser: ArgumentParser):
    """Compare speech LLMs that have answered the same questions, condition by condition.

    Differences are from the first, paired by question, with 95% bootstrap intervals and the p of
    McNemar's exact test. A pruned encoder is compared with the dense one in this way.
    """
    parser.add_argument(
        "--answers",
        nargs=2,
        action="append",
        required=True,
        metavar=("NAME", "DIR"),
        help="name in the table, and directory with answers.*.jsonl; twice or more",
    )

    return calls("evaluate.sir.compare.compare_models")


def tsne(parser: ArgumentParser):
    """Draw the tokens of a recording in a plane: kept audio tokens, dropped ones, the question's.

    t-SNE as in Figure 2 of SpeechPrune (arXiv 2412.12009). The options are those of sir_inference,
    so that its config can be used here. The pruner is that of --token_pruner and
    --token_pruner_conf; options about answers are not read.
    """
    add_inference(parser)
    parser.add_argument("--item", help="id of the recording (default: the first)")
    parser.add_argument("--plot", type=Path, help="PNG file to write")

    def run(args):
        from espnet_prune.evaluate.sir.inference import draw_tokens

        draw_tokens(inference_settings(args, "plot"), args.plot, args.item)

    return run


def add_inference(parser: ArgumentParser) -> None:
    """Add --config and the options of `evaluate.sir.inference.Settings`."""
    add = parser.add_argument
    add("--config", type=Path, help="YAML file with these options; the command line goes first")
    add("--data_dir", type=Path, help="data directory with questions")
    add("--speech_llm", help=SPEECH_LLMS)
    add("--speech_llm_conf", action=KeyValues, help="an argument of its loading, e.g. model=DIR")
    add("--token_pruner", help="the only strategy, without --strategies (default: none)")
    add("--token_pruner_conf", action=KeyValues, help="an argument of TokenPruner, e.g. rate=0.2")
    add("--strategies", help="strategies of the grid, e.g. 'speechprune rap'")
    add("--rates", help="pruning rates of the grid, in [0, 1), e.g. '0.2 0.8'")
    add("--protocol", help="likelihood of each choice's text (default), or letter of an answer")
    add("--prompt", help="prompt with {question} and, if wanted or by letter, {choices}")
    add("--positions", help="position ids: contiguous or original")
    add("--seed", type=int, help="seed of the order of choices")
    add("--batch_size", type=int, help="items at a time (default: 1)")


def inference_settings(args: Namespace, *required: str):
    """The `Settings` of options and config; `required` ones have to be given, too."""
    from dataclasses import fields

    from espnet_prune.evaluate.sir.inference import Settings

    fill_from_config(args)
    missing = ("data_dir", *required, "speech_llm")
    if any(getattr(args, name) is None for name in missing):
        *first, last = (f"--{name}" for name in missing)
        raise ValueError(f"{', '.join(first)} and {last} have to be given")
    given = {f.name: getattr(args, f.name) for f in fields(Settings)}
    return Settings(**{name: value for name, value in given.items() if value is not None})


VERBS = {"data": data, "score": score, "compare": compare, "tsne": tsne}
