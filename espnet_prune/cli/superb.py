"""`espnet-prune superb`: SUPERB's tasks on a frozen encoder."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

from espnet_prune.cli.options import add_runner, calls, name_and_value, true_or_false


def labels(parser: ArgumentParser):
    """Write the list of classes of a classification task."""
    add = parser.add_argument
    add("--train", required=True, help="data directory of the training data")
    add("--others", nargs="*", default=[], help="valid and test data")
    add("--output_dir", required=True, help="directory for labels.txt and slot_sizes")
    slots = "labels are values of several slots with + between: list all combinations"
    add("--slots", type=true_or_false, default=False, metavar="BOOL", help=slots)
    return calls("evaluate.superb.labels.write_labels")


def cacheable(parser: ArgumentParser):
    """Check that a training hears the same waveforms in each epoch, as a feature cache needs."""
    parser.add_argument("--config", type=Path, required=True, help="config of the probe's training")
    return calls("evaluate.superb.checks.check_cacheable")


def lengths(parser: ArgumentParser):
    """Check that an encoder takes every utterance."""
    add = parser.add_argument
    add("--upstream", required=True, help="directory or hub name of the encoder")
    add("--config", type=Path, help="config of the probe's training, for its crops")
    add("--train", nargs="*", default=[], help="formatted training data")
    add("--others", nargs="*", default=[], help="formatted valid and test data")
    add("--cache", help="directory for hidden states: tell how much they need and what they save")
    add("--device", default="cpu", help="device of the encoder, cpu or cuda")
    return calls("evaluate.superb.checks.check_encoder")


def choose(parser: ArgumentParser):
    """Choose the training of a sweep that is best on its validation data."""
    parser.add_argument("train_dirs", nargs="+", help="ESPnet trainings")
    parser.add_argument("--criterion", required=True, help="statistic and mode, such as acc.max")
    parser.add_argument("--link", type=Path, required=True, help="link to make to the best one")
    return calls("evaluate.superb.learning_rate.choose")


def common_rate(parser: ArgumentParser):
    """Choose the learning rate that is best over all folds of a sweep, and print it."""
    parser.add_argument("exp", type=Path, nargs="+", help="experiments of superb.sh with a sweep")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    return calls("evaluate.superb.learning_rate.common_rate")


def results(parser: ArgumentParser):
    """Make one table of all tasks that were run with an encoder.

    RESULTS/RESULTS.md has each TASK/scores.json of the directory, with the learning rates of the
    trainings that were scored (their directories are in TASK/tested), the commands and the machine.
    With tasks of SUPERB, the score over them follows, as `superb score` writes it.
    """
    add = parser.add_argument
    add("--results_dir", type=Path, required=True, help="directory for RESULTS.md")
    add("--task", required=True, help="task just run: its folder in --results_dir")
    add("--upstream", required=True, help="directory of the encoder")
    add("--seed", type=int, default=0, help="seed of the probe")
    add("--command", default="", help="command that ran the task")
    return calls("evaluate.superb.results.write_results")


def score(parser: ArgumentParser):
    """Compute the SUPERB score of an encoder: table, score and plots against published models.

    Figures come from the folders of a results directory, each as `espnet-prune score` wrote it
    (RESULTS/PR/scores.json, …), or from a JSON file in the leaderboard's units, such as
    {"PR": 8.22, "ASR": 10.19, "SF-F1": 87.68, "SF-CER": 26.11}. Tasks without figures are left out,
    for the published models, too. The last line printed is the score.

    superb_score.md, .json and .png go to the directory of results, or to that of FILE, whose name
    then comes first (FILE_superb_score.md).
    """
    source = parser.add_mutually_exclusive_group(required=True)
    add = source.add_argument
    add("results", type=Path, nargs="?", help="directory with TASK/scores.json")
    add("--json", type=Path, metavar="FILE", help="figures in percent: metric -> value")
    add = parser.add_argument
    add("--name", help="name of the model (default: that of the directory or file)")
    add("--parameters", type=float, help="parameters of the encoder, in millions")
    macs = "MACs of the encoder, in 10^9, as the leaderboard's profiler counts (WavLM Base+: 1670)"
    add("--macs", type=float, help=macs)
    add("--output_dir", type=Path, help="another directory for what is written")
    return calls("evaluate.superb.score_report.report_score")


def table(parser: ArgumentParser):
    """Make one table of several encoders over the same tasks, and a plot against parameters.

    Each --encoder has results directories as SUPERB's recipes write them, one a seed of the
    probes. A cell is the mean over seeds, in [] the ends of the 95% bootstrap intervals over the
    test data (also means over seeds), and in () the least and greatest of the seeds. Below it are
    the learning rates that the probes were trained with. RESULTS.md, results.json and results.png
    are written.
    """
    add = parser.add_argument
    row = {"nargs": "+", "action": "append", "required": True, "metavar": ("NAME", "DIR")}
    add("--encoder", help="a row: its name and its results directories", **row)
    add("--tasks", nargs="+", required=True, help="columns: folders in DIR")
    add("--output_dir", type=Path, required=True, help="directory for RESULTS.md")
    add("--command", default="", help="command that ran all this")
    add("--note", action="append", default=[], help="a line below the table")
    return calls("evaluate.superb.table.write_table")


def sweep(parser: ArgumentParser):
    """Run the recipes of several tasks for several encoders, and write a table and a plot.

    Stages: 2 data, 3 learning rates, 4 probes, 5 results. Learning rates are chosen on validation
    data of the first encoder and hold for all. Finished probes are not repeated if they were made
    with the same encoder and learning rate. TASK in the options of run.sh stands for the task.
    """
    add = parser.add_argument
    pair = {"nargs": "+", "required": True, "type": name_and_value}
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
    add_runner(parser)
    return calls("launch.sweeps.superb_sweep")


VERBS = {
    "labels": labels,
    "lengths": lengths,
    "cacheable": cacheable,
    "choose": choose,
    "common-rate": common_rate,
    "results": results,
    "score": score,
    "table": table,
    "sweep": sweep,
}
