"""Scorer of transcripts: WER and CER of one or two systems, with the errors of each utterance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from espnet_prune.data.data_dir import read_table
from espnet_prune.data.normalize import NORMALIZERS
from espnet_prune.evaluate.metrics.error_rate import (
    ALIGNERS,
    ErrorCounts,
    ErrorRate,
    count_errors,
    error_rate,
    error_rate_difference,
)
from espnet_prune.evaluate.report import SCORES, metric, percent, table, with_interval
from espnet_prune.evaluate.scoring.reading import align, read_references
from espnet_prune.extras import load_extra
from espnet_prune.files.writing import write_json, write_text

# Folder of the results, as ESPnet names it -> unit of the error rate.
UNITS = {"wer": "word", "cer": "char"}


@dataclasses.dataclass(frozen=True)
class System:
    """The hypotheses of one system, aligned with the references."""

    name: str
    path: Path
    hypotheses: list[str]
    missing: list[str]
    counts: dict[str, ErrorCounts]


def read_system(
    name: str, path: Path, references: dict[str, str], normalize: Callable[[str], str]
) -> System:
    """Read a hypothesis file and count its errors; a missing utterance is an empty hypothesis."""
    texts, missing = align(path, read_table(path), references, "its words count as deleted")
    hypotheses = [normalize(text) for text in texts]
    truth = list(references.values())
    counts = {rate: count_errors(truth, hypotheses, unit) for rate, unit in UNITS.items()}
    return System(name, path, hypotheses, missing, counts)


def score_text(
    ref: Path, hyp: Path, output_dir: Path, hyp2: Path | None = None, normalizer: str = "spoken"
) -> str:
    """Write scores.json and, for each rate and system, result.txt; return a table of all rates.

    Args:
        ref, hyp: ``utterance text`` lines.
        output_dir: gets scores.json, score_wer/result.txt and score_cer/result.txt.
        hyp2: hypotheses of a second system to compare, result_hyp2.txt. The difference is tested
            by a paired bootstrap over the utterances.
        normalizer: a key of `NORMALIZERS`, for references and hypotheses alike.
    """
    normalize = NORMALIZERS[normalizer]()
    references = read_references(ref, normalize)
    given = {"hyp": hyp} if hyp2 is None else {"hyp": hyp, "hyp2": hyp2}
    systems = [read_system(name, path, references, normalize) for name, path in given.items()]
    summary: dict = {"ref": str(ref), "utterances": len(references), "normalizer": normalizer}
    summary["systems"] = {}
    rows = [["system", "utterances", "words", "WER % [95%]", "CER % [95%]"]]
    for system in systems:
        results = {rate: error_rate(system.counts[rate]) for rate in UNITS}
        for rate, result in results.items():
            name = "result.txt" if system.name == "hyp" else f"result_{system.name}.txt"
            text = result_text(system, rate, references, result)
            write_text(output_dir / f"score_{rate}" / name, text)
        summary["systems"][system.name] = {
            "text": str(system.path),
            "missing": system.missing,
            **{rate: dataclasses.asdict(result) for rate, result in results.items()},
        }
        if system.name == "hyp":
            summary["metrics"] = {rate: metric(r) for rate, r in results.items()}
        numbers = map(str, (system.path, len(references), results["wer"].reference_length))
        rows.append([*numbers, *(percent(metric(r), digits=1) for r in results.values())])
    if len(systems) == 2:
        first, second = (system.counts for system in systems)
        differences = {rate: error_rate_difference(first[rate], second[rate]) for rate in UNITS}
        summary["difference"] = {k: dataclasses.asdict(v) for k, v in differences.items()}
        cells = (with_interval(d.difference, d.low, d.high, sign="+") for d in differences.values())
        rows.append(["second minus first", "", "", *cells])
    write_json(output_dir / SCORES, summary)
    return table(rows)


def result_text(system: System, rate: str, references: dict[str, str], result: ErrorRate) -> str:
    """The summary in the layout of sclite, then each utterance that has errors, aligned."""
    counts = system.counts[rate]
    parts = [counts.hits, counts.substitutions, counts.deletions, counts.insertions, counts.errors]
    sentence_errors = 100 * (counts.errors > 0).mean()
    shares = [f"{100 * part.sum() / result.reference_length:.1f}" for part in parts]
    title = f"{rate.upper()} in percent [95% bootstrap interval over utterances]"
    lines = [
        "| SPKR    | # Snt  # Wrd | Corr  Sub  Del  Ins  Err  S.Err |",
        f"| Sum/Avg | {len(counts)}  {result.reference_length} | "
        f"{'  '.join(shares)}  {sentence_errors:.1f} |",
        "",
        f"{title}: {percent(metric(result), digits=1)}",
        f"utterances without a hypothesis: {len(system.missing)}",
        *(f"  {key}" for key in system.missing),
    ]
    jiwer = load_extra("jiwer", "superb")
    aligned = getattr(jiwer, ALIGNERS[UNITS[rate]])
    for number, (key, reference) in enumerate(references.items()):
        if not counts.errors[number]:
            continue
        alignment = aligned(reference, system.hypotheses[number])
        drawn = jiwer.visualize_alignment(alignment, show_measures=False).strip("\n").split("\n")
        scores = " ".join(str(part[number]) for part in parts[:-1])
        # The first two lines only number the sentence.
        lines += ["", f"id: ({key})", f"Scores: (#C #S #D #I) {scores}", *drawn[2:]]
    return "\n".join(line.rstrip() for line in lines) + "\n"
