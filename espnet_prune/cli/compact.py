"""`espnet-prune compact`: the steps around the training of the compact speech LLM.

The recipe egs2/speech_llm/compact1 calls them in order; the trainings themselves are
`bin.speech_llm_ctc_train` and `bin.speech_llm_lora_train`.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from espnet_prune.cli.options import calls


def text(parser: ArgumentParser):
    """Have a language model write passages to speak, a JSON list of sentences a line."""
    add = parser.add_argument
    add("--language_model", type=Path, required=True, help="directory of the language model")
    add("--hours", type=float, default=9.0, help="hours of speech to train on")
    add("--held_out", type=int, default=60, help="further passages, to validate and test on")
    add("--output", type=Path, required=True, help="file to write; a stopped run is continued")
    add("--seed", type=int, default=0, help="seed of subjects and words")
    add("--ngpu", type=int, default=0, help="number of GPUs (0: the CPU)")
    return calls("speech_llm.compact.passages.write_hours")


def words(parser: ArgumentParser):
    """Write word lists and dictionary texts to speak, a JSON list of sentences a line.

    A written text has few words often. The lists have the commonest words, and the texts are chosen
    so that together they have these words often and many others.
    """
    add = parser.add_argument
    add("--language_model", type=Path, required=True, help="directory of the language model")
    add("--tools_dir", type=Path, required=True, help="folder to unpack word list and texts in")
    add("--most", type=int, default=12000, help="number of common words: tokens of the model")
    add("--times", type=int, default=10, help="times that each is in a list; 0: no lists")
    add("--text_times", type=int, default=8, help="times that texts should have it; 0: no texts")
    add("--other_times", type=int, default=1, help="times that texts should have any other word")
    add("--output", type=Path, required=True, help="file to write")
    add("--seed", type=int, default=0, help="seed of the order")
    return calls("speech_llm.compact.words.write_lists")


def speech(parser: ArgumentParser):
    """Speak passages into the data directories train, valid and test.

    Train and valid are spoken by the training voices, test by voices that training never hears; the
    passages of the three are different ones.
    """
    add = parser.add_argument
    add("--passages", type=Path, required=True, help="file with a JSON list of sentences a line")
    add("--word_lists", type=Path, help="another such file, without facts, for train only")
    add("--output_dir", type=Path, required=True, help="directory for train, valid and test")
    add("--tools_dir", type=Path, required=True, help="folder to unpack packages of voices in")
    add("--held_out", type=int, default=60, help="first passages, half for valid, half for test")
    add("--fact_share", type=float, default=0.5, help="share of excerpts with a question")
    add("--voices", type=str.split, help="training voices, with blanks between")
    add("--test_voices", type=str.split, help="voices of test, with blanks between")
    add("--seed", type=int, default=0, help="seed of facts and their places")
    add("--nj", type=int, default=1, help="number of worker processes")
    return calls("speech_llm.compact.excerpts.speak_parts")


def tokens(parser: ArgumentParser):
    """Find the few tokens that spell all words of a training text: the classes of the adapter.

    With all merges of the language model's byte-pair table most words are tokens of their own, and
    the adapter has to hear each of them dozens of times.
    """
    add = parser.add_argument
    add("--language_model", type=Path, required=True, help="directory of the language model")
    add("--words", type=Path, required=True, help="table with the words of the training excerpts")
    add("--merges", type=int, default=0, help="merges of the byte-pair table to use (0: all)")
    add("--output", type=Path, required=True, help="JSON file to write")
    return calls("speech_llm.compact.pieces.write_pieces")


def start(parser: ArgumentParser):
    """Begin training the LoRA of an existing compact speech LLM further.

    Writes what `compact tokens` and the training of the adapter make otherwise: the tokens that the
    adapter tells apart, and the weights that the training of LoRA begins with.
    """
    add = parser.add_argument
    add("--language_model", type=Path, required=True, help="directory of the language model")
    add("--model", type=Path, required=True, help="directory of the compact speech LLM")
    add("--merges", type=int, default=0, help="--merges of `compact tokens` when it was trained")
    add("--pieces", type=Path, required=True, help="JSON file to write")
    add("--weights", type=Path, required=True, help="file to write, for --init_param")
    return calls("speech_llm.compact.pieces.write_start")


def features(parser: ArgumentParser):
    """Encode the excerpts of a data directory with a frozen encoder, for training to read.

    Into the output directory go feats/ID.npy, (T, D) in float16 at 25 Hz; ctc/ with feats.scp,
    feats_shape and words; lora/ with recordings of some excerpts each, feats.scp, feats_shape,
    prompt and answer. Features of an earlier run with the same encoder are kept.
    """
    add = parser.add_argument
    add("--encoder", type=Path, required=True, help="directory of a dense or pruned encoder")
    add("--data_dir", type=Path, required=True, help="with wav.scp, text, words and questions")
    add("--output_dir", type=Path, required=True, help="directory to write")
    add("--seconds", type=float, default=50.0, help="longest recording for LoRA, in seconds")
    add("--seed", type=int, default=0, help="seed of the recordings' lengths")
    add("--dtype", default="auto", help="float32, bfloat16, or auto: bfloat16 where that is fast")
    add("--ngpu", type=int, default=0, help="number of GPUs (0: the CPU)")
    return calls("speech_llm.compact.features.write_features")


def export(parser: ArgumentParser):
    """Turn the training directory of LoRA into the directory of a compact speech LLM.

    It holds weights of adapter and LoRA in float16, and the names of encoder and language model.
    """
    add = parser.add_argument
    add("--train_dir", type=Path, required=True, help="training directory")
    add("--model_file", default="valid.loss.best.pth", help="weights in it")
    add("--output_dir", type=Path, required=True, help="directory to write")
    add("--lora", choices=("trained", "none"), default="trained", help="none: leave LoRA out")
    return calls("plugin.tasks.speech_llm.export")


def report(parser: ArgumentParser):
    """Measure a compact speech LLM on held-out excerpts: WER of its adapter, and right answers.

    The WER is that of the adapter's best CTC paths. A question is answered rightly when the right
    choice is the likeliest: from the audio, from the transcript (upper bound), from the words of
    those paths, and from nothing.
    """
    add = parser.add_argument
    add("--model", type=Path, help="directory of the compact speech LLM (default: the recipe's)")
    add("--data_dir", type=Path, required=True, help="with wav.scp, text and questions")
    add("--most", type=int, default=200, help="largest number of excerpts")
    add("--encoder", type=Path, help="directory, instead of the model's own")
    add("--language_model", type=Path, help="directory, instead of the model's own")
    add("--device", default="cpu", help="cpu or cuda")
    add("--output", type=Path, required=True, help="Markdown file to write; .json beside it")
    return calls("evaluate.compact_report.write_report")


VERBS = {
    verb.__name__: verb for verb in (text, words, speech, tokens, start, features, export, report)
}
