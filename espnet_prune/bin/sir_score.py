"""Score the answers of sir_inference: tables, tests and plots over strategies and rates.

Beside every accuracy stand what it has to be compared with: chance, always taking the most frequent
letter, no audio, and the transcript in the place of audio. The likeliest choice is taken. With
answers that were given without audio there are accuracies for a second way to choose: what the
audio adds most likelihood to (pointwise mutual information, PMI). With the times of the key
sentences (the data directory's file `sentences`) the evidence recall of every condition is given,
too. Writes RESULTS.md, scores.json and images/ in OUTPUT_DIR; the figure that sir_tsne has left
there is shown, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from espnet_prune.cli import errors as cli
from espnet_prune.data.sir.directory import data_mark
from espnet_prune.data.sir.items import LETTERS
from espnet_prune.data.sir.questions import Question, read_questions
from espnet_prune.evaluate.environment import environment_report
from espnet_prune.evaluate.metrics import Estimate, accuracy
from espnet_prune.evaluate.metrics.bootstrap import ratio_of_sums
from espnet_prune.evaluate.report import SCORES, metric, table
from espnet_prune.evaluate.sir.answers import Answer, read_answers
from espnet_prune.evaluate.sir.conditions import (
    FIRST_30_S,
    HEARD,
    NOTHING,
    REFERENCES,
    TRANSCRIPT,
    WHOLE,
    Condition,
    strategy_order,
)
from espnet_prune.evaluate.sir.plots import plot_rates, plot_strip
from espnet_prune.evaluate.sir.scores import (
    Comparison,
    by_condition,
    chance,
    compare,
    majority,
    mean,
    read_evidence,
    recalls,
    right,
    right_by_pmi,
)
from espnet_prune.files.writing import write_text

#: below images/, by sir_tsne
TSNE_PLOT = "tsne.png"
#: items in the strip plot
STRIPS = 3


def titles_of(header: dict) -> dict[Condition, str]:
    """What tables call the references: the beginning by its true length."""
    window = header["token_pruner_conf"].get("window")
    return {
        WHOLE: "whole recording",
        FIRST_30_S: "first 30 s" if window is None else f"first {window} tokens",
        TRANSCRIPT: "transcript instead of audio",
        HEARD: "words of the model's own recogniser instead of audio",
        NOTHING: "no audio",
    }


@dataclasses.dataclass(frozen=True)
class Judged:
    """Accuracy of a condition by one way to choose, and its comparisons."""

    accuracy: Estimate
    against: dict[str, Comparison]

    def to_json(self) -> dict:
        return {
            "accuracy": metric(self.accuracy.value, self.accuracy),
            "against": {name: dataclasses.asdict(c) for name, c in self.against.items()},
        }


@dataclasses.dataclass(frozen=True)
class Result:
    """One condition: its answers, accuracies by `LIKELY` and (but without audio) `BY_PMI`, evidence
    recall (of each item, and in the mean)."""

    answers: list[Answer]
    judged: dict[str, Judged]
    recalls: np.ndarray | None
    recall: Estimate | None
    kept: float

    def to_json(self) -> dict:
        found = {**self.judged[LIKELY].to_json(), "kept_tokens": self.kept}
        if BY_PMI in self.judged:
            found["pmi"] = self.judged[BY_PMI].to_json()
        if self.recall is not None:
            found["evidence_recall"] = metric(self.recall.value, self.recall)
        return found


Results = dict[Condition, Result]
LIKELY, BY_PMI = "accuracy", "accuracy by PMI"
#: below the table of the second one
PMI = (
    "Taken is the choice whose mean log-likelihood the audio raises most above that without audio, "
    "so that a text which is likely by itself has no advantage (arXiv 2104.08315)."
)


def results(answers: list[Answer], spans: Mapping, header: dict) -> Results:
    """Every condition, references first, then strategies and rates in order."""
    titles = titles_of(header)
    grouped = by_condition(answers)
    correct = {LIKELY: {condition: right(rows) for condition, rows in grouped.items()}}
    if len(grouped) > 1 and NOTHING in grouped:
        others = {c: rows for c, rows in grouped.items() if c != NOTHING}
        correct[BY_PMI] = {c: right_by_pmi(rows, grouped[NOTHING]) for c, rows in others.items()}
    ways = {way: judged(each, titles) for way, each in correct.items()}
    found = {}
    for condition in sorted(grouped, key=_order):
        rows = grouped[condition]
        recall = recalls(rows, spans, header["frame_tokens"])
        found[condition] = Result(
            rows,
            {way: each[condition] for way, each in ways.items() if condition in each},
            recall,
            None if recall is None else mean(recall),
            float(np.mean([len(row.kept) for row in rows])),
        )
    return found


def judged(
    correct: dict[Condition, np.ndarray], titles: dict[Condition, str]
) -> dict[Condition, Judged]:
    """Accuracies and comparisons of (items,) bool, whether each answer is right."""
    found = {}
    for condition, own in correct.items():
        against = {
            name: compare(own, correct[other])
            for name, other in rivals(condition, titles).items()
            if other in correct and other != condition
        }
        found[condition] = Judged(accuracy([own]), against)
    return found


def _order(condition: Condition):
    first = REFERENCES.index(condition) if condition in REFERENCES else len(REFERENCES)
    return first, strategy_order(condition.strategy), condition.rate or 0.0, condition.keep or 0


def rivals(condition: Condition, titles: dict[Condition, str]) -> dict[str, Condition]:
    """What a condition is compared with, by the name of a column."""
    found = {titles[other]: other for other in (WHOLE, FIRST_30_S)}
    if condition not in REFERENCES:
        same = dataclasses.replace(condition, strategy="speechprune")
        found["speechprune, same rate"] = same
    return found


def percent(estimate: Estimate, sign: str = "") -> str:
    value, low, high = (100 * x for x in (estimate.value, estimate.low, estimate.high))
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def bounds(
    found: Results, questions: list[Question], titles: dict[Condition, str]
) -> tuple[list[list[str]], dict]:
    """Rows and numbers of what every accuracy is to be held against."""
    ways = ways_of(found)
    rows = [["", *(f"{way} % [95%]" for way in ways)]]
    places = [answer.answer for answer in next(iter(found.values())).answers]
    place, shuffled = majority(places)
    letter, published = majority([question.answer for question in questions])
    guess = chance(questions)
    rows.append(["chance", f"{100 * guess:.1f}"])
    rows.append([f"always {LETTERS[place]} (shuffled choices)", percent(shuffled)])
    rows.append([f"always {LETTERS[letter]} (order of the file)", percent(published)])
    for row in rows[1:]:
        row += row[1:] * (len(ways) - 1)
    for condition in (NOTHING, TRANSCRIPT, HEARD, WHOLE, FIRST_30_S):
        if condition in found:
            own = found[condition].judged
            values = [percent(own[way].accuracy) if way in own else "" for way in ways]
            rows.append([titles[condition], *values])
    numbers = {
        "chance": guess,
        "majority_letter": metric(shuffled.value, shuffled),
        "majority_letter_of_the_file": metric(published.value, published),
    }
    return rows, numbers


def ways_of(found: Results) -> list[str]:
    """Those of `LIKELY` and `BY_PMI` that there are."""
    return [way for way in (LIKELY, BY_PMI) if any(way in r.judged for r in found.values())]


def grid_of(values: Mapping[Condition, Estimate | None]) -> dict[str, dict[float, Estimate]]:
    """strategy -> rate -> accuracy or evidence recall, where there are both."""
    grid: dict[str, dict[float, Estimate]] = {}
    for condition, value in values.items():
        reference = condition in REFERENCES
        if condition.rate is not None and value is not None and not reference:
            grid.setdefault(condition.strategy, {})[condition.rate] = value
    return grid


def recall_grid(found: Results) -> dict[str, dict[float, Estimate]]:
    return grid_of({condition: result.recall for condition, result in found.items()})


def accuracies_of(found: Results, way: str) -> dict[Condition, Estimate]:
    return {c: r.judged[way].accuracy for c, r in found.items() if way in r.judged}


def recall_ratios(found: Results) -> dict[str, dict[float, Estimate]]:
    """strategy -> rate -> evidence recall as a multiple of random tokens', paired by item."""
    grid: dict[str, dict[float, Estimate]] = {}
    for strategy, row in recall_grid(found).items():
        for rate in row:
            pair = [Condition(strategy=name, rate=rate) for name in (strategy, "rap")]
            if strategy == "rap" or pair[1] not in found or found[pair[1]].recall.value == 0:
                continue
            own, random = (found[condition].recalls for condition in pair)
            grid.setdefault(strategy, {})[rate] = ratio_of_sums(own, random)
    return grid


def multiple(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def grid_table(grid: Mapping[str, Mapping[float, Estimate]], show: Callable = percent) -> str:
    """Strategies down, rates across."""
    rates = sorted({rate for row in grid.values() for rate in row})
    rows = [["strategy", *(f"rate {rate:g}" for rate in rates)]]
    for strategy, row in grid.items():
        rows.append([strategy, *(show(row[r]) if r in row else "" for r in rates)])
    return table(rows)


def tests_table(found: Results, titles: dict[Condition, str], way: str) -> str:
    """All conditions with their differences and the p of McNemar's test."""
    every = {c: result.judged[way] for c, result in found.items() if way in result.judged}
    used = {name for own in every.values() for name in own.against}
    columns = [name for name in rivals(Condition(strategy="rap"), titles) if name in used]
    rows = [["condition", "tokens kept", f"{way} %", *(f"minus {name}" for name in columns)]]
    for condition, own in every.items():
        name = titles.get(condition, condition.name)
        rows.append([name, f"{found[condition].kept:.0f}", f"{100 * own.accuracy.value:.1f}"])
        for column in columns:
            c = own.against.get(column)
            rows[-1].append("" if c is None else f"{percent(c.difference, '+')}, p {c.p:.2g}")
    return table(rows)


def strips(found: Results) -> list[list[Answer]]:
    """Answers of some items under every strategy, at the middle one of the rates."""
    shown = [c for c in found if c.input == "speech" and c.rate is not None and c != FIRST_30_S]
    if not shown:
        shown = [c for c in found if c.input == "speech"]
    else:
        rates = sorted({c.rate for c in shown})
        shown = [c for c in shown if c.rate == rates[(len(rates) - 1) // 2]]
    count = len(next(iter(found.values())).answers)
    picked = sorted({n * count // STRIPS for n in range(STRIPS)})
    return [[found[c].answers[n] for c in shown] for n in picked] if shown else []


def word_error_rate(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; run the stage of the WER check first")
    scores = json.loads(path.read_text(encoding="utf-8"))
    wer = scores["systems"]["hyp"]["wer"]
    rate = percent(Estimate(wer["rate"], wer["low"], wer["high"]))
    return f"{rate} on {scores['utterances']} windows ({wer['reference_length']} words)"


def report(args: argparse.Namespace, found: Results, header: dict, questions) -> tuple[str, dict]:
    """RESULTS.md and scores.json; draws the plots on the way."""
    any_answers = next(iter(found.values())).answers
    titles, options = titles_of(header), header["token_pruner_conf"]
    minutes = sum(answer.seconds for answer in any_answers) / 60
    bound_rows, numbers = bounds(found, questions, titles)
    parts = [f"# {args.title}", ""]
    if args.command:
        parts += [f"Made by `{args.command}`.", ""]
    parts += [
        f"{len(any_answers)} recordings, {minutes:.1f} minutes; speech LLM "
        f"`{header['speech_llm']}`; prompt `{json.dumps(header['prompt'])}`; choices shuffled per "
        f"item (seed {header['seed']}) and scored by the mean log-likelihood of their texts.",
        "",
    ]
    if options:
        parts += [f"Options of all token pruners: `{json.dumps(options)}`.", ""]
    if args.wer is not None:
        parts += [f"WER % of Whisper on the speech: {word_error_rate(args.wer)}.", ""]
    parts += ["## What an accuracy has to be held against", "", table(bound_rows), ""]
    numbers["conditions"] = {c.name: {**c.to_json(), **r.to_json()} for c, r in found.items()}
    ways = ways_of(found)
    accuracies = {way: grid_of(accuracies_of(found, way)) for way in ways}
    evidence = recall_grid(found)
    for way, grid in accuracies.items():
        if grid:
            parts += [f"## {way[0].upper()}{way[1:]} (%)", "", grid_table(grid), ""]
            if way == BY_PMI:
                parts += [PMI, ""]
    if evidence:
        parts += ["## Evidence recall (%)", "", grid_table(evidence), ""]
        parts += ["The share of the key sentence's audio tokens that are kept.", ""]
    ratios = recall_ratios(found)
    if ratios:
        parts += [
            "As a multiple of that of random tokens (rap):",
            "",
            grid_table(ratios, multiple),
            "",
        ]
        for strategy, row in ratios.items():
            for rate, ratio in row.items():
                name = Condition(strategy=strategy, rate=rate).name
                numbers["conditions"][name]["recall_against_rap"] = metric(ratio.value, ratio)
    parts += ["## Comparisons", ""]
    for way in ways:
        parts += [tests_table(found, titles, way), ""]
    parts += [
        "In brackets 95% bootstrap intervals over items, paired for differences (points); p of "
        "McNemar's exact test, two-sided, not corrected for the number of comparisons.",
        "",
    ]
    images = args.output_dir / "images"
    if accuracies[LIKELY]:
        panels = {}
        for way, grid in accuracies.items():
            every = accuracies_of(found, way)
            levels = {titles[c]: every[c].value for c in REFERENCES if c in every}
            panels[way] = grid, {**levels, "chance": numbers["chance"]}
        if evidence:
            first = found[FIRST_30_S].recall if FIRST_30_S in found else None
            level = {titles[FIRST_30_S]: first.value} if first is not None else {}
            panels["evidence recall"] = (evidence, level)
        plot_rates(panels, images / "rates.png", list(accuracies[LIKELY]))
        parts += [f"![{' and '.join(panels)} against the rate](images/rates.png)", ""]
    shown = strips(found)
    if shown and header["frame_tokens"] is not None:
        plot_strip(shown, read_spans(args.data_dir), header["frame_tokens"], images / "strip.png")
        parts += ["![which audio tokens were kept](images/strip.png)", ""]
    if (images / TSNE_PLOT).is_file():
        parts += [f"![t-SNE of one recording's tokens](images/{TSNE_PLOT})", ""]
    parts.append(environment_report())
    return "\n".join(parts), numbers


def read_spans(data_dir: Path) -> dict:
    """Times of the key sentences; none where nobody knows them."""
    path = data_dir / "sentences"
    return read_evidence(path) if path.is_file() else {}


def run(args: argparse.Namespace) -> None:
    header, answers = read_answers(args.answers)
    everything = read_questions(args.data_dir / "questions")
    ids = sorted({answer.id for answer in answers})
    unknown = [name for name in ids if name not in everything]
    if unknown:
        raise ValueError(f"{args.answers}: {unknown[0]} is not in {args.data_dir / 'questions'}")
    if header["data_dir"] != data_mark(args.data_dir):
        raise ValueError(
            f"{args.answers}: the answers are to another state of {args.data_dir}: run inference "
            "again, into an empty folder"
        )
    if len(ids) < len(everything):
        missing = min(everything.keys() - set(ids))
        raise ValueError(
            f"{args.answers}: {len(ids)} of {len(everything)} items are answered, {missing} is "
            "not: inference has not ended, run it again"
        )
    found = results(answers, read_spans(args.data_dir), header)
    text, numbers = report(args, found, header, [everything[name] for name in ids])
    write_text(args.output_dir / "RESULTS.md", text)
    scores = {"items": len(ids), "made_with": header, **numbers}
    write_text(args.output_dir / SCORES, json.dumps(scores, indent=2) + "\n")
    print(text)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data_dir", type=Path, required=True, help="that the questions are from")
    add("--answers", type=Path, required=True, help="directory with answers.*.jsonl")
    add("--output_dir", type=Path, required=True, help="for RESULTS.md, scores.json and images/")
    add("--title", default="Speech information retrieval", help="of RESULTS.md")
    add("--command", default="", help="command that made the answers")
    add("--wer", type=Path, help="scores.json of score_text: Whisper on the speech")
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
