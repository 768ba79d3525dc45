"""Equal error rate of speaker verification with 95% confidence interval.

A trial is named 'utterance*utterance', as ESPnet names it. Its score is read from --scores, or is
the cosine of the two embeddings of --embeddings. With --utt2spk the interval is over speakers;
without, it takes trials for independent and is too narrow.

SUPERB's habit is to report the checkpoint that is best on the test set; with the embeddings of
other checkpoints, --other_embeddings, that number is eer_best_on_test.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from espnet_prune.bin.score_output import add_output, load_array
from espnet_prune.cli import errors as cli
from espnet_prune.data.data_dir import read_table
from espnet_prune.evaluate.metrics import equal_error_rate
from espnet_prune.evaluate.report import metric, write_scores

LABELS = {"1": True, "0": False, "target": True, "nontarget": False}


def read_trials(path: Path) -> dict[str, bool]:
    """Trial -> whether both utterances are of one speaker."""
    trials = read_table(path)
    for trial, label in trials.items():
        if label not in LABELS:
            raise ValueError(f"{path}: {trial}: '{label}' is not one of {', '.join(LABELS)}")
    return {trial: LABELS[label] for trial, label in trials.items()}


def sides(path: Path, trials: Iterable[str]) -> list[list[str]]:
    """The two utterances of each trial."""
    pairs = [trial.split("*") for trial in trials]
    for pair in pairs:
        if len(pair) != 2:
            raise ValueError(f"{path}: trial '{'*'.join(pair)}' is not 'utterance*utterance'")
    return pairs


def look_up(path: Path, found: dict[str, str], key: str) -> str:
    if key not in found:
        raise ValueError(f"{path}: has no line for {key}")
    return found[key]


def read_scores(path: Path, trials: Iterable[str]) -> np.ndarray:
    """Scores of the trials, shape (trials,)."""
    found = read_table(path)
    scores = []
    for trial in trials:
        try:
            scores.append(float(look_up(path, found, trial).split()[0]))
        except (IndexError, ValueError):
            look_up(path, found, trial)
            raise ValueError(f"{path}: {trial}: '{found[trial]}' is not a score") from None
    return np.array(scores)


def cosine_scores(path: Path, pairs: list[list[str]]) -> np.ndarray:
    """Cosines of the embeddings that a table names as .npy files, shape (trials,)."""
    found = read_table(path)
    vectors = {}
    for utterance in dict.fromkeys(name for pair in pairs for name in pair):
        file = look_up(path, found, utterance)
        vector = load_array(file).astype(np.float64).ravel()
        length = np.linalg.norm(vector)
        if not length > 0:
            raise ValueError(f"{file}: the embedding of {utterance} is zero or not a number")
        vectors[utterance] = vector / length
    return np.array([vectors[first] @ vectors[second] for first, second in pairs])


def run(args: argparse.Namespace) -> None:
    trials = read_trials(args.trials)
    pairs = sides(args.trials, trials) if args.embeddings or args.utt2spk else []
    scores = cosine_scores(args.embeddings, pairs) if args.embeddings else None
    if scores is None:
        scores = read_scores(args.scores, trials)
    speakers = None
    if args.utt2spk:
        utt2spk = read_table(args.utt2spk)
        speakers = np.array([[look_up(args.utt2spk, utt2spk, n) for n in pair] for pair in pairs])
    targets = np.array(list(trials.values()))
    eer = equal_error_rate(scores, targets, speakers)
    metrics = {"eer": metric(eer.value, eer)}
    if args.other_embeddings:
        pairs = sides(args.trials, trials)
        others = [
            equal_error_rate(cosine_scores(path, pairs), targets, speakers)
            for path in args.other_embeddings
        ]
        best = min([eer, *others], key=lambda estimate: estimate.value)
        metrics["eer_best_on_test"] = metric(best.value, best)
    write_scores(
        args.output_dir,
        metrics,
        trials=len(targets),
        targets=int(targets.sum()),
        interval_over="trials" if speakers is None else "speakers",
    )


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--trials", type=Path, required=True, help=f"'trial label' lines; {', '.join(LABELS)}"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scores", type=Path, help="'trial score' lines; higher is more alike")
    source.add_argument(
        "--embeddings",
        type=Path,
        help="embed.scp of spk_embed: 'utterance file.npy' lines",
    )
    parser.add_argument(
        "--other_embeddings", type=Path, nargs="+", help="the same of other checkpoints"
    )
    parser.add_argument("--utt2spk", type=Path, help="'utterance speaker' lines")
    add_output(parser)
    return parser


def main(cmd: list[str] | None = None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
