"""The verbs `encoder sweep` and `superb sweep`, which run recipes many times."""

from __future__ import annotations

from argparse import Action, ArgumentError, ArgumentParser
from pathlib import Path

from espnet_prune.cli.options import calls, true_or_false


def encoder_sweep(parser: ArgumentParser):
    """Run a pruning recipe at several sizes against other methods with the same number of updates.

    Call it in the recipe's directory, after stages 1 to 3 of its run.sh (data and teacher).
      ours     query-key and value-output dimensions inside heads, heads, feed-forward, CNN
      heads    the same, but attention is pruned by whole heads only
      noste    as ours, but without the straight-through estimator
      random   random structured pruning, then distillation
      scratch  random weights in the sizes of ours, then distillation
    EXPDIR gets a table and a plot of loss and WER against parameters and, with ours and noste, a
    plot of the course of both (ste_TARGET.png). Finished runs are not repeated.
    """
    add = parser.add_argument
    add("--targets", nargs="+", default=["0.5", "0.7", "0.3"], help="parameters to remove")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of target 0.5; others have seed 0")
    add("--methods", nargs="+", default=["ours", "heads", "random"], help="rows of the table")
    add("--updates", type=int, help="of both trainings together (default: 600; in debug runs 12)")
    add("--expdir", type=Path, help="as in run.sh (default: exp; in debug runs exp_debug)")
    add("--output", default="TABLE.md", help="name of the table in EXPDIR")
    _add_runner(parser)
    return calls("launch.sweeps.prune_sweep")


def superb_sweep(parser: ArgumentParser):
    """Run the recipes of several tasks for several encoders, and write a table and a plot.

    Stages: 2 data, 3 learning rates, 4 probes, 5 results. Learning rates are chosen on validation
    data of the first encoder and hold for all. Finished probes are not repeated if they were made
    with the same encoder and learning rate. TASK in the options of run.sh stands for the task.
    """
    add = parser.add_argument
    pair = {"nargs": "+", "required": True, "action": _Pairs}
    add("--encoders", metavar="NAME=MODEL", help="directories or hub names of the encoders", **pair)
    add("--tasks", metavar="TASK=DIR", help="directories of the tasks' recipes", **pair)
    add("--seeds", nargs="+", type=int, default=[0], help="seeds of the tasks in --seeded")
    add("--seeded", nargs="*", default=[], help="tasks that have all seeds, not the first only")
    add("--learning_rates", nargs="*", default=[], help="rates to try (default: the configs')")
    add("--fixed", nargs="*", default=[], help="tasks that keep the rate of their config")
    add("--expdir", type=Path, default=Path("exp"), help="folder for everything that is made")
    add("--stage", type=int, default=2, help="first stage to run")
    add("--stop_stage", type=int, default=5, help="last stage to run")
    add("--command", default="", help="command that is named in the results")
    _add_runner(parser)
    return calls("launch.sweeps.superb_sweep")


def _add_runner(parser: ArgumentParser) -> None:
    """Add the options that are fields of `launch.sweeps.Runner`."""
    add = parser.add_argument
    add("--nj", type=int, default=1, help="runs at a time, each with its share of the processors")
    add("--python", default="python3", help="command that starts Python")
    add("--debug", type=true_or_false, default=False, help="short runs, for testing")
    add("options", nargs="*", metavar="-- OPTION", help="further options of run.sh")


class _Pairs(Action):
    """An option of several NAME=VALUE, as a dict."""

    def __call__(self, parser, namespace, values, option_string=None):
        for text in values:
            if not all(text.partition("=")):
                raise ArgumentError(self, f"'{text}' is not NAME=VALUE")
        setattr(namespace, self.dest, dict(text.split("=", 1) for text in values))
