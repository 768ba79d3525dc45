"""`espnet-prune compact`: the steps around the training of the compact speech LLM.

The recipe egs2/speech_llm/compact1 calls them in order; the training itself is
`bin.speech_llm_lora_train`.
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


def speech(parser: ArgumentParser):
    """Speak passages into the data directories train, valid and test.

    Train and valid are spoken by the training voices, test by voices that training never hears; the
    passages of the three are different ones.
    """
    add = parser.add_argument
    add("--passages", type=Path, required=True, help="file with a JSON list of sentences a line")
    add("--output_dir", type=Path, required=True, help="directory for train, valid and test")
    add("--tools_dir", type=Path, required=True, help="folder to unpack packages of voices in")
    add("--held_out", type=int, default=60, help="first passages, half for valid, half for test")
    add("--fact_share", type=float, default=0.5, help="share of excerpts with a question")
    add("--voices", type=str.split, help="training voices, with blanks between")
    add("--test_voices", type=str.split, help="voices of test, with blanks between")
    add("--seed", type=int, default=0, help="seed of facts and their places")
    add("--nj", type=int, default=1, help="number of worker processes")
    return calls("speech_llm.compact.excerpts.speak_parts")


def hear(parser: ArgumentParser):
    """Let Whisper hear the excerpts of a data directory, for training to read.

    Excerpts are put together to recordings. Into the output directory go tokens/ID.npy, what the
    ear says in time: (T,) token ids of the language model, 25 a second, -1 where no token begins;
    tokens.scp, tokens_shape, prompt and answer. What an earlier run has heard is kept.
    """
    add = parser.add_argument
    add("--whisper", type=Path, required=True, help="directory of a whole Whisper")
    add("--encoder", type=Path, help="directory of a pruned encoder, in place of Whisper's own")
    add("--language_model", type=Path, required=True, help="directory of the language model")
    add("--data_dir", type=Path, required=True, help="with wav.scp, text and questions")
    add("--output_dir", type=Path, required=True, help="directory to write")
    add("--seconds", type=float, default=50.0, help="longest recording, in seconds")
    add("--seed", type=int, default=0, help="seed of the recordings' lengths")
    add("--nj", type=int, default=1, help="number of worker processes, on the CPU")
    add("--ngpu", type=int, default=0, help="number of GPUs (0: the CPU)")
    return calls("speech_llm.compact.hearing.write_heard")


def export(parser: ArgumentParser):
    """Turn the training directory of LoRA into the directory of a compact speech LLM.

    It holds weights of adapter and LoRA in float16, and the names of Whisper and language model.
    """
    add = parser.add_argument
    add("--train_dir", type=Path, required=True, help="training directory")
    add("--model_file", default="valid.loss.best.pth", help="weights in it")
    add("--output_dir", type=Path, required=True, help="directory to write")
    add("--lora", choices=("trained", "none"), default="trained", help="none: leave LoRA out")
    return calls("plugin.tasks.speech_llm.export")


def report(parser: ArgumentParser):
    """Measure a compact speech LLM on held-out excerpts: WER of its ear, and right answers.

    A question is answered rightly when the right choice is the likeliest: from the audio, from the
    transcript (upper bound), from the words that the ear has heard, and from nothing.
    """
    add = parser.add_argument
    add("--model", type=Path, help="directory of the compact speech LLM (default: the recipe's)")
    add("--data_dir", type=Path, required=True, help="with wav.scp, text and questions")
    add("--most", type=int, default=200, help="largest number of excerpts")
    add("--whisper", type=Path, help="directory, instead of the model's own")
    add("--encoder", type=Path, help="directory of a pruned encoder, in place of Whisper's own")
    add("--language_model", type=Path, help="directory, instead of the model's own")
    add("--device", default="cpu", help="cpu or cuda")
    add("--output", type=Path, required=True, help="Markdown file to write; .json beside it")
    return calls("evaluate.compact_report.write_report")


VERBS = {verb.__name__: verb for verb in (text, speech, hear, export, report)}
