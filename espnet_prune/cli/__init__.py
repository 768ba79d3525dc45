"""The command `espnet-prune NOUN VERB`: one file a noun, imported when it is called.

A verb is a function that takes an `argparse.ArgumentParser`, adds its options and returns what runs
them. Its docstring is the help text. Nothing heavy (torch, transformers, ESPnet) is imported before
the options are parsed; what a verb needs is imported in its `run`.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Mapping

from espnet_prune.cli.errors import run_or_exit

#: noun -> its line in `espnet-prune --help`; each is a module of this package with a dict VERBS.
NOUNS = {
    "encoder": "prune, slim, export, import and compare speech encoders",
    "tokens": "audio token pruning of speech LLMs",
    "sir": "Speech Information Retrieval: data, scores and plots",
    "superb": "SUPERB's tasks on a frozen encoder: preparation, results and score",
    "score": "score hypotheses: WER, PER, accuracy, EER, DER, TWV and slots",
    "data": "data directories: check, fix, split, format and pack",
    "corpus": "data directories from a corpus",
    "compact": "train the compact speech LLM",
    "plugins": "have ESPnet know the plugins in every program",
    "hub": "fetch pretrained models by name",
    "env": "show versions, machine and commit",
}

Verb = Callable[[argparse.ArgumentParser], Callable[[argparse.Namespace], None]]


def main(argv: list[str] | None = None) -> None:
    """Run `espnet-prune` with these arguments (those of the process when not given).

    Raises:
        SystemExit: 2 for a command line that is wrong, 1 for an error while it runs.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview("espnet-prune NOUN VERB [OPTION ...]", NOUNS))
        return
    noun = argv.pop(0)
    if noun not in NOUNS:
        _refuse(f"unknown noun '{noun}', choose from {', '.join(NOUNS)}")
    verbs: Mapping[str, Verb] = importlib.import_module(f"espnet_prune.cli.{noun}").VERBS
    name = ""
    if "" not in verbs:  # a noun that is a command by itself has the only verb ""
        if not argv or argv[0] in ("-h", "--help"):
            lines = {verb: function.__doc__.partition("\n")[0] for verb, function in verbs.items()}
            print(_overview(f"espnet-prune {noun} VERB [OPTION ...]", lines))
            return
        name = argv.pop(0)
        if name not in verbs:
            _refuse(f"unknown verb '{name}' of {noun}, choose from {', '.join(verbs)}")
    parser = argparse.ArgumentParser(
        prog=f"espnet-prune {noun} {name}".strip(),
        description=inspect.cleandoc(verbs[name].__doc__),
        formatter_class=_HelpFormatter,
    )
    run = verbs[name](parser)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_or_exit(run, args)


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of a docstring, and tells the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        told = str(action.default) in ("None", "False", "", "()", "[]", argparse.SUPPRESS)
        if action.option_strings and not told and "default" not in text:
            text += " (default: %(default)s)"
        return text.strip()


def _overview(usage: str, lines: Mapping[str, str]) -> str:
    width = max(map(len, lines))
    rows = [f"  {name:{width}}  {text}" for name, text in lines.items()]
    return "\n".join([f"usage: {usage}", "", *rows, "", "Each takes --help."])


def _refuse(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
