"""The report of an inference: tables, tests and plots over strategies and rates.

Choices are taken in three ways: the likeliest; where there are answers without audio, the one that
the audio adds most likelihood to (pointwise mutual information, PMI); and, of generated answers,
the one whose letter is said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from espnet_prune.data.data_dir import read_table
from espnet_prune.data.normalize import normalize_text
from espnet_prune.data.sir.directory import data_mark
from espnet_prune.data.sir.questions import LETTERS, Question, read_questions
from espnet_prune.evaluate.metrics.accuracy import accuracy
from espnet_prune.evaluate.metrics.bootstrap import Estimate, ratio_of_sums
from espnet_prune.evaluate.metrics.error_rate import ErrorRate, count_errors, error_rate
from espnet_prune.evaluate.report import SCORES, table, with_interval, write_results
from espnet_prune.evaluate.sir import scores
from espnet_prune.evaluate.sir.answers import Answer, read_answers
from espnet_prune.evaluate.sir.conditions import (
    FIRST_30_S,
    HEARD,
    NOTHING,
    REFERENCES,
    TRANSCRIPT,
    WHOLE,
    Condition,
)
from espnet_prune.evaluate.sir.plots import plot_rates, plot_strip
from espnet_prune.evaluate.sir.protocols import LETTER, LIKELIHOOD
from espnet_prune.files.reading import read_record
from espnet_prune.files.writing import write_json
from espnet_prune.tokens import STRATEGIES

#: below images/, by `inference.draw_tokens`
TSNE_PLOT = "tsne.png"
#: items in the strip plot
STRIPS = 3
LIKELY, BY_PMI, BY_LETTER = WAYS = "accuracy", "accuracy by PMI", "accuracy by letter"
#: below the tables of the other two
NOTES = {
    BY_PMI: (
        "Taken is the choice whose mean log-likelihood the audio raises most above that without "
        "audio, so that a text which is likely by itself has no advantage (arXiv 2104.08315)."
    ),
    BY_LETTER: "Taken is the choice whose letter the model says; saying none is wrong.",
}
#: what is said of a protocol
SCORED = {
    LIKELIHOOD: "scored by the mean log-likelihood of their texts",
    LETTER: "an answer is generated, and its letter taken",
}
#: strategies that the others are compared with
RANDOM, BEST = "rap", "speechprune"


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


@dataclass(frozen=True)
class Judged:
    """Accuracy of a condition by one way to choose, and its comparisons."""

    accuracy: Estimate
    against: dict[str, scores.Comparison]


@dataclass(frozen=True)
class Result:
    """One condition: its answers, accuracies by some of `WAYS` (by PMI not without audio), evidence
    recall (of each item, and in the mean)."""

    answers: list[Answer]
    judged: dict[str, Judged]
    recalls: np.ndarray | None
    recall: Estimate | None
    kept: float

    def to_json(self) -> dict:
        found: dict = {"kept_tokens": self.kept}
        if LIKELY in self.judged:
            found |= asdict(self.judged[LIKELY])
        for way, name in ((BY_PMI, "pmi"), (BY_LETTER, "letter")):
            if way in self.judged:
                found[name] = asdict(self.judged[way])
        if self.recall is not None:
            found["evidence_recall"] = asdict(self.recall)
        return found


Results = dict[Condition, Result]
Measures = dict[Condition, Estimate]
Grid = dict[str, dict[float, Estimate]]


def results(answers: Mapping[str, list[Answer]], spans: Mapping, header: dict) -> Results:
    """Every condition, references first, then strategies and rates in order.

    Args:
        answers: by protocol; all to the same items.
    """
    titles = titles_of(header)
    by_protocol = {protocol: scores.by_condition(rows) for protocol, rows in answers.items()}
    ways = {LIKELIHOOD: LIKELY, LETTER: BY_LETTER}
    # way to choose -> condition -> whether each answer is right
    correct = {
        ways[protocol]: {condition: scores.right(rows) for condition, rows in every.items()}
        for protocol, every in by_protocol.items()
    }
    likely = by_protocol.get(LIKELIHOOD, {})
    if len(likely) > 1 and NOTHING in likely:
        prior, others = likely[NOTHING], likely.keys() - {NOTHING}
        correct[BY_PMI] = {c: scores.right_by_pmi(likely[c], prior) for c in others}
    grouped: dict[Condition, list[Answer]] = {}
    for every in by_protocol.values():
        grouped = {**every, **grouped}
    spoken, found = spoken_tokens(grouped), {}
    for condition in sorted(grouped, key=_order):
        rows = grouped[condition]
        recall = scores.recalls(rows, spans, header["frame_tokens"], spoken)
        judged = {}
        for way, right in correct.items():
            if condition in right:
                against = {
                    name: scores.compare(right[condition], right[other])
                    for name, other in rivals(condition, titles).items()
                    if other in right and other != condition
                }
                judged[way] = Judged(accuracy([right[condition]]), against)
        mean = None if recall is None else scores.mean(recall)
        kept = float(np.mean([len(row.kept) for row in rows]))
        found[condition] = Result(rows, judged, recall, mean, kept)
    return found


def recogniser_errors(found: Results, text: Path) -> ErrorRate | None:
    """Word error rate of what the speech LLM has heard of whole recordings, normalised; None where
    there are no words or no transcripts."""
    rows = [row for row in found[HEARD].answers if row.words is not None] if HEARD in found else []
    if not rows or not text.is_file():
        return None
    said = read_table(text)
    references = [normalize_text(said[row.id]) for row in rows]
    return error_rate(count_errors(references, [normalize_text(row.words or "") for row in rows]))


def spoken_tokens(grouped: Mapping[Condition, list[Answer]]) -> dict[str, tuple[int, ...]]:
    """Item -> its audio tokens that are words, of models that know them."""
    return {row.id: row.spoken for row in grouped.get(WHOLE, []) if row.spoken is not None}


def _order(condition: Condition):
    first = REFERENCES.index(condition) if condition in REFERENCES else len(REFERENCES)
    strategy = list(STRATEGIES).index(condition.strategy)
    return first, strategy, condition.rate or 0.0, condition.keep or 0


def rivals(condition: Condition, titles: dict[Condition, str]) -> dict[str, Condition]:
    """What a condition is compared with, by the name of a column."""
    found = {titles[other]: other for other in (WHOLE, FIRST_30_S)}
    if condition not in REFERENCES:
        found[f"{BEST}, same rate"] = replace(condition, strategy=BEST)
    return found


def percent(estimate: Estimate | ErrorRate, sign: str = "") -> str:
    return with_interval(estimate.value, estimate.low, estimate.high, sign=sign)


def multiple(estimate: Estimate) -> str:
    return with_interval(estimate.value, estimate.low, estimate.high, scale=1, digits=2)


def accuracies_of(found: Results) -> dict[str, Measures]:
    """Those of `WAYS` that there are -> accuracies."""
    every = {
        way: {c: r.judged[way].accuracy for c, r in found.items() if way in r.judged}
        for way in WAYS
    }
    return {way: accuracies for way, accuracies in every.items() if accuracies}


def bounds(
    found: Results, questions: list[Question], titles: dict[Condition, str]
) -> tuple[str, dict]:
    """Table and numbers of baselines and upper bounds."""
    ways = accuracies_of(found)
    places = [answer.answer for answer in next(iter(found.values())).answers]
    place, shuffled = scores.majority(places)
    letter, published = scores.majority([question.answer for question in questions])
    guess = scores.chance(questions)
    rows = [
        ["", *(f"{way} % [95%]" for way in ways)],
        ["chance", *[f"{100 * guess:.1f}"] * len(ways)],
        [f"always {LETTERS[place]} (shuffled choices)", *[percent(shuffled)] * len(ways)],
        [f"always {LETTERS[letter]} (order of the file)", *[percent(published)] * len(ways)],
    ]
    for condition in (NOTHING, TRANSCRIPT, HEARD, WHOLE, FIRST_30_S):
        if condition in found:
            values = [percent(of[condition]) if condition in of else "" for of in ways.values()]
            rows.append([titles[condition], *values])
    majorities = {"majority_letter": shuffled, "majority_letter_of_the_file": published}
    return table(rows), {"chance": guess, **{k: asdict(v) for k, v in majorities.items()}}


def grid_of(values: Measures) -> Grid:
    """strategy -> rate -> accuracy or evidence recall, where there are both."""
    grid: Grid = {}
    for condition, value in values.items():
        if condition.rate is not None and condition not in REFERENCES:
            grid.setdefault(condition.strategy, {})[condition.rate] = value
    return grid


def recall_ratios(found: Results) -> Measures:
    """Evidence recall at a rate as a multiple of random tokens', paired by item."""
    ratios = {}
    for condition, own in found.items():
        if condition.rate is None or condition in REFERENCES or condition.strategy == RANDOM:
            continue
        random = found.get(replace(condition, strategy=RANDOM))
        if own.recall is not None and random is not None and random.recall.value:
            ratios[condition] = ratio_of_sums(own.recalls, random.recalls)
    return ratios


def grid_table(grid: Grid, show: Callable[[Estimate], str] = percent) -> str:
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
    columns = [name for name in rivals(Condition(strategy=RANDOM), titles) if name in used]
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
    speech = [c for c in found if c.input == "speech"]
    shown = [c for c in speech if c.rate is not None and c != FIRST_30_S]
    rates = sorted({c.rate for c in shown})
    shown = [c for c in shown if c.rate == rates[(len(rates) - 1) // 2]] or speech
    count = len(next(iter(found.values())).answers)
    picked = sorted({n * count // STRIPS for n in range(STRIPS)})
    return [[found[c].answers[n] for c in shown] for n in picked] if shown else []


def word_error_rate(path: Path) -> str:
    """Whisper's WER on the speech, from the scores.json of `score text`."""
    found = read_record(path, ("systems", "utterances"), "run the stage of the WER check first")
    wer = found["systems"]["hyp"]["wer"]
    rate = with_interval(wer["rate"], wer["low"], wer["high"])
    return f"{rate} on {found['utterances']} windows ({wer['reference_length']} words)"


def read_protocols(
    data_dir: Path, directories: Sequence[Path]
) -> tuple[dict[str, dict], dict[str, list[Answer]]]:
    """Headers and answers by protocol, of one directory for each (ValueError: answers to another
    state of the data or to other items, with other seeds or models, or two of one protocol)."""
    headers: dict[str, dict] = {}
    answers: dict[str, list[Answer]] = {}
    for directory in directories:
        header, rows = read_answers(directory)
        protocol = header.get("protocol", LIKELIHOOD)
        if header["data_dir"] != data_mark(data_dir):
            other = f"{directory}: the answers are to another state of {data_dir}"
            raise ValueError(f"{other}: run inference again, into an empty folder")
        if protocol in headers:
            raise ValueError(f"{directory}: the protocol is '{protocol}', as of another directory")
        first = next(iter(headers.values()), header)
        apart = {"protocol", "prompt", "code"}
        differ = [key for key in {**first, **header} if first.get(key) != header.get(key)]
        differ = [key for key in differ if key not in apart]
        if differ:
            raise ValueError(
                f"{directory}: was made with another {', '.join(differ)} than the first"
            )
        headers[protocol], answers[protocol] = header, rows
    ids = {protocol: {answer.id for answer in rows} for protocol, rows in answers.items()}
    first_ids = next(iter(ids.values()))
    for directory, own in zip(directories, ids.values(), strict=True):
        if own != first_ids:
            name = min(own ^ first_ids)
            raise ValueError(f"{directory}: {name} is answered by one protocol only; run the other")
    return headers, answers


def write_report(
    data_dir: Path,
    answers: Sequence[Path],
    output_dir: Path,
    title: str,
    command: str,
    wer: Path | None,
) -> str:
    """Write RESULTS.md, scores.json and images/ in `output_dir`.

    Arguments are the options of `espnet-prune sir score`.

    Returns: the text of RESULTS.md.
    Raises:
        FileNotFoundError, ValueError: answers or tables are missing or damaged; the answers are of
            other data, or not to all questions.
    """
    headers, rows = read_protocols(data_dir, answers)
    header = next(iter(headers.values()))
    everything = read_questions(data_dir / "questions")
    ids = sorted({answer.id for answer in next(iter(rows.values()))})
    for name in ids:
        if name not in everything:
            raise ValueError(f"{answers[0]}: {name} is not in {data_dir / 'questions'}")
    if len(ids) < len(everything):
        some = f"{len(ids)} of {len(everything)} items are answered"
        missing = f"{min(everything.keys() - set(ids))} is not"
        raise ValueError(f"{answers[0]}: {some}, {missing}: inference has not ended, run it again")
    sentences = data_dir / "sentences"
    spans = scores.read_evidence(sentences) if sentences.is_file() else {}
    found = results(rows, spans, header)
    titles, options = titles_of(header), header["token_pruner_conf"]
    minutes = sum(answer.seconds for answer in next(iter(found.values())).answers) / 60
    bounds_table, numbers = bounds(found, [everything[name] for name in ids], titles)
    numbers["conditions"] = {c.name: {**asdict(c), **r.to_json()} for c, r in found.items()}
    parts = [f"# {title}"]
    if command:
        parts.append(f"Made by `{command}`.")
    asked = [f"prompt `{json.dumps(own['prompt'])}`, {SCORED[p]}" for p, own in headers.items()]
    parts.append(
        f"{len(ids)} recordings, {minutes:.1f} minutes; speech LLM `{header['speech_llm']}`; "
        f"choices shuffled per item (seed {header['seed']}); {'; '.join(asked)}."
    )
    if options:
        parts.append(f"Options of all token pruners: `{json.dumps(options)}`.")
    if wer is not None:
        parts.append(f"WER % of Whisper on the speech: {word_error_rate(wer)}.")
    errors = recogniser_errors(found, data_dir / "text")
    if errors is not None:
        parts.append(f"WER % of the speech LLM's own recogniser: {percent(errors)}.")
        numbers["recogniser_wer"] = asdict(errors)
    parts += ["## Baselines and upper bounds", bounds_table]
    panels = {}
    for way, every in accuracies_of(found).items():
        grid = grid_of(every)
        if grid:
            parts += [f"## {way[0].upper()}{way[1:]} (%)", grid_table(grid)]
            parts += [NOTES[way]] if way in NOTES else []
            levels = {titles[c]: every[c].value for c in REFERENCES if c in every}
            panels[way] = grid, {**levels, "chance": numbers["chance"]}
    recalls = {c: result.recall for c, result in found.items() if result.recall is not None}
    recall = grid_of(recalls)
    if recall:
        parts += ["## Evidence recall (%)", grid_table(recall)]
        known = any(row.spoken for row in found[WHOLE].answers) if WHOLE in found else False
        what = "words" if known else "audio tokens"
        parts.append(f"The share of the key sentence's {what} that are kept.")
        first = {titles[FIRST_30_S]: recalls[FIRST_30_S].value} if FIRST_30_S in recalls else {}
        panels["evidence recall"] = recall, first
    ratios = recall_ratios(found)
    if ratios:
        parts.append(f"As a multiple of that of random tokens ({RANDOM}):")
        parts.append(grid_table(grid_of(ratios), multiple))
        for condition, ratio in ratios.items():
            numbers["conditions"][condition.name]["recall_against_rap"] = asdict(ratio)
    parts += ["## Comparisons", *(tests_table(found, titles, w) for w in accuracies_of(found))]
    parts.append(
        "In brackets 95% bootstrap intervals over items, paired for differences (points); p of "
        "McNemar's exact test, two-sided, not corrected for the number of comparisons."
    )
    images = output_dir / "images"
    if panels:
        strategies = dict.fromkeys(name for grid, _ in panels.values() for name in grid)
        plot_rates(panels, images / "rates.png", list(strategies))
        parts.append(f"![{' and '.join(panels)} against the rate](images/rates.png)")
    shown = strips(found)
    if shown and header["frame_tokens"] is not None:
        plot_strip(shown, spans, header["frame_tokens"], images / "strip.png")
        parts.append("![which audio tokens were kept](images/strip.png)")
    if (images / TSNE_PLOT).is_file():
        parts.append(f"![t-SNE of one recording's tokens](images/{TSNE_PLOT})")
    write_json(output_dir / SCORES, {"items": len(ids), "made_with": headers, **numbers})
    return write_results(output_dir, parts)
