"""The same questions, answered by several speech LLMs: with another encoder, other weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from espnet_prune.evaluate.report import table
from espnet_prune.evaluate.sir import scores
from espnet_prune.evaluate.sir.answers import read_answers
from espnet_prune.evaluate.sir.conditions import NOTHING
from espnet_prune.evaluate.sir.report import BY_PMI, LIKELY, percent, titles_of

#: what answers have to have in common, by their header
SAME = ("data_dir", "prompt", "protocol", "seed")


def compare_models(answers: Sequence[tuple[str, str]]) -> str:
    """Accuracies of every condition that all have, and differences from the first, paired.

    Arguments are the options of `espnet-prune sir compare`.

    Returns: a table; p is McNemar's.
    Raises:
        FileNotFoundError, ValueError: answers are missing, or to other questions.
    """
    every = {}
    first = None
    for name, directory in answers:
        header, rows = read_answers(Path(directory))
        first = first or header
        for key in SAME:
            if header.get(key) != first.get(key):
                raise ValueError(f"{directory}: {key} is not that of {answers[0][1]}")
        every[name] = scores.by_condition(rows)
    names, titles = list(every), titles_of(first or {})
    if len(names) < max(2, len(answers)):
        raise ValueError("--answers: give two or more, each with a name of its own")
    conditions = [c for c in every[names[0]] if all(c in found for found in every.values())]
    by_pmi = all(NOTHING in found for found in every.values())
    rows = [["condition", "speech LLM", f"{LIKELY} %", f"minus {names[0]}"]]
    rows[0] += [f"{BY_PMI} %", f"minus {names[0]}"] if by_pmi else []
    for condition in conditions:
        for name in names:
            rows.append([titles.get(condition, condition.name), name])
            for pmi in (False, True) if by_pmi else (False,):
                if pmi and condition == NOTHING:
                    rows[-1] += ["", ""]
                    continue
                own, other = (
                    scores.right_by_pmi(found[condition], found[NOTHING])
                    if pmi
                    else scores.right(found[condition])
                    for found in (every[name], every[names[0]])
                )
                found = scores.compare(own, other)
                shown = f"{percent(found.difference, '+')}, p {found.p:.2g}"
                rows[-1] += [percent(scores.mean(own)), "" if name == names[0] else shown]
    return table(rows)
