"""Scorers of files with a label, phones or marked slots for each utterance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from espnet_prune.evaluate.metrics.accuracy import accuracy, correct
from espnet_prune.evaluate.metrics.error_rate import count_errors, error_rate
from espnet_prune.evaluate.metrics.slots import slot_type_f1, slot_value_cer
from espnet_prune.evaluate.report import write_scores
from espnet_prune.evaluate.scoring.reading import read_pair


def score_accuracy(ref: Sequence[Path], hyp: Sequence[Path], output_dir: Path) -> str:
    """Accuracy of ``utterance label`` files, one a fold; without hypothesis a label is wrong."""
    if len(ref) != len(hyp):
        raise ValueError(f"--ref has {len(ref)} folds but --hyp {len(hyp)}; give as many")
    folds, missing = [], []
    for reference, hypothesis in zip(ref, hyp, strict=True):
        references, hypotheses, absent = read_pair(reference, hypothesis, "it counts as wrong")
        if not references:
            raise ValueError(f"{reference}: has no utterances")
        empty = [value for value in references if not value]
        if empty:
            raise ValueError(f"{reference}: {len(empty)} utterances have no label")
        folds.append(correct(references, hypotheses))
        missing += absent
    means = [float(fold.mean()) for fold in folds]
    counts = {"folds": means, "utterances": sum(map(len, folds)), "missing": missing}
    return write_scores(output_dir, {"accuracy": accuracy(folds)}, **counts)


def score_phones(ref: Path, hyp: Path, output_dir: Path) -> str:
    """Phone error rate; phones are compared as they are written."""
    references, hypotheses, missing = read_pair(ref, hyp, "its phones count as deleted")
    result = error_rate(count_errors(references, hypotheses))
    counts = {"errors": result.errors, "reference_length": result.reference_length}
    counts |= {"utterances": len(references), "missing": missing}
    return write_scores(output_dir, {"per": result}, **counts)


def score_slots(ref: Path, hyp: Path, output_dir: Path) -> str:
    """Slot-type F1 and slot-value CER of texts with marked slots."""
    references, hypotheses, missing = read_pair(ref, hyp, "it counts as without slots")
    pair = references, hypotheses
    metrics = {"slot_type_f1": slot_type_f1(*pair), "slot_value_cer": slot_value_cer(*pair)}
    return write_scores(output_dir, metrics, utterances=len(references), missing=missing)
