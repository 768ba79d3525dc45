"""Scorer of speaker verification: EER of scores of trials, or of embeddings.

A trial is named 'utterance*utterance', as ESPnet names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from espnet_prune.data.data_dir import read_table
from espnet_prune.evaluate.metrics.verification import equal_error_rate
from espnet_prune.evaluate.report import write_scores
from espnet_prune.evaluate.scoring.reading import finite, load_array

LABELS = {"1": True, "0": False, "target": True, "nontarget": False}


def score_eer(
    trials: Path,
    output_dir: Path,
    scores: Path | None = None,
    embeddings: Path | None = None,
    other_embeddings: Sequence[Path] | None = None,
    utt2spk: Path | None = None,
) -> str:
    """EER of trials.

    Args:
        trials: ``trial label`` lines, see `LABELS`.
        scores: ``trial score`` lines, higher is more alike; or else
        embeddings: ``utterance file.npy`` lines; the score is the cosine.
        other_embeddings: the same of other checkpoints. The best one on these trials, SUPERB's
            habit, is eer_best_on_test.
        utt2spk: speakers, over which the interval is then. Without it trials are taken for
            independent, and the interval is too narrow.
    """
    found = read_trials(trials)
    pairs = _sides(trials, found) if embeddings or other_embeddings or utt2spk else []
    values = cosine_scores(embeddings, pairs) if embeddings else read_scores(scores, found)
    speakers = None
    if utt2spk:
        table = read_table(utt2spk)
        speakers = np.array([[_look_up(utt2spk, table, name) for name in pair] for pair in pairs])
    targets = np.array(list(found.values()))
    eer = equal_error_rate(values, targets, speakers)
    metrics = {"eer": eer}
    if other_embeddings:
        others = (cosine_scores(path, pairs) for path in other_embeddings)
        rates = [eer, *(equal_error_rate(other, targets, speakers) for other in others)]
        metrics["eer_best_on_test"] = min(rates, key=lambda rate: rate.value)
    over = "trials" if speakers is None else "speakers"
    counts = {"trials": len(targets), "targets": int(targets.sum())}
    return write_scores(output_dir, metrics, **counts, interval_over=over)


def read_trials(path: Path) -> dict[str, bool]:
    """Trial -> whether both utterances are of one speaker."""
    trials = read_table(path)
    for trial, label in trials.items():
        if label not in LABELS:
            raise ValueError(f"{path}: {trial}: '{label}' is not one of {', '.join(LABELS)}")
    return {trial: LABELS[label] for trial, label in trials.items()}


def read_scores(path: Path, trials: Iterable[str]) -> np.ndarray:
    """Scores of the trials, shape (trials,)."""
    found = read_table(path)
    scores = []
    for trial in trials:
        value = _look_up(path, found, trial)
        try:
            scores.append(finite(value.split()[0]))
        except (IndexError, ValueError):
            raise ValueError(f"{path}: {trial}: '{value}' is not a score") from None
    return np.array(scores)


def cosine_scores(path: Path, pairs: list[list[str]]) -> np.ndarray:
    """Cosines of the embeddings that a table names as .npy files, shape (trials,)."""
    found = read_table(path)
    vectors = {}
    for utterance in dict.fromkeys(name for pair in pairs for name in pair):
        file = _look_up(path, found, utterance)
        vector = load_array(file).astype(np.float64).ravel()
        length = np.linalg.norm(vector)
        if not length > 0:
            raise ValueError(f"{file}: the embedding of {utterance} is zero or not a number")
        vectors[utterance] = vector / length
    return np.array([vectors[first] @ vectors[second] for first, second in pairs])


def _sides(path: Path, trials: Iterable[str]) -> list[list[str]]:
    """The two utterances of each trial."""
    pairs = [trial.split("*") for trial in trials]
    for pair in pairs:
        if len(pair) != 2:
            raise ValueError(f"{path}: trial '{'*'.join(pair)}' is not 'utterance*utterance'")
    return pairs


def _look_up(path: Path, found: Mapping[str, str], key: str) -> str:
    if key not in found:
        raise ValueError(f"{path}: has no line for {key}")
    return found[key]
