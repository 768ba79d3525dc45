"""Word and character error rates of one or two systems, with 95% confidence intervals.

References and hypotheses are normalised alike (lower case, digits as words, no punctuation). With
a second system, the difference is tested by a paired bootstrap over the utterances.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path

import jiwer

from espnet_prune.bin.score_output import align
from espnet_prune.cli import errors as cli
from espnet_prune.data.data_dir import read_table
from espnet_prune.data.normalize import normalize_text
from espnet_prune.evaluate.metrics import (
    ErrorCounts,
    ErrorRate,
    ErrorRateDifference,
    count_errors,
    error_rate,
    error_rate_difference,
)
from espnet_prune.evaluate.report import SCORES, metric, table
from espnet_prune.files.writing import write_text

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


def read_system(name: str, path: Path, references: dict[str, str]) -> System:
    """Reads a hypothesis file and counts its errors; a missing utterance is an empty hypothesis."""
    texts, missing = align(path, read_table(path), references, "its words count as deleted")
    hypotheses = [normalize_text(text) for text in texts]
    counts = {
        rate: count_errors(list(references.values()), hypotheses, unit)
        for rate, unit in UNITS.items()
    }
    return System(name, path, hypotheses, missing, counts)


def _percent(result: ErrorRate | ErrorRateDifference) -> str:
    value = result.rate if isinstance(result, ErrorRate) else result.difference
    sign = "" if isinstance(result, ErrorRate) else "+"
    low, high = 100 * result.low, 100 * result.high
    return f"{100 * value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def result_text(system: System, rate: str, references: dict[str, str], result: ErrorRate) -> str:
    """The summary in the layout of sclite, then each utterance that has errors, aligned."""
    counts = system.counts[rate]
    parts = [counts.hits, counts.substitutions, counts.deletions, counts.insertions, counts.errors]
    sentence_errors = 100 * (counts.errors > 0).mean()
    shares = [f"{100 * part.sum() / result.reference_length:.1f}" for part in parts]
    lines = [
        "| SPKR    | # Snt  # Wrd | Corr  Sub  Del  Ins  Err  S.Err |",
        f"| Sum/Avg | {len(counts)}  {result.reference_length} | "
        f"{'  '.join(shares)}  {sentence_errors:.1f} |",
        "",
        f"{rate.upper()} in percent [95% bootstrap interval over utterances]: {_percent(result)}",
        f"utterances without a hypothesis: {len(system.missing)}",
        *(f"  {key}" for key in system.missing),
    ]
    align = jiwer.process_words if rate == "wer" else jiwer.process_characters
    for number, (key, reference) in enumerate(references.items()):
        if not counts.errors[number]:
            continue
        alignment = align(reference, system.hypotheses[number])
        drawn = jiwer.visualize_alignment(alignment, show_measures=False).strip("\n").split("\n")
        scores = " ".join(str(part[number]) for part in parts[:-1])
        # The first two lines only number the sentence.
        lines += ["", f"id: ({key})", f"Scores: (#C #S #D #I) {scores}", *drawn[2:]]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def run(args: argparse.Namespace) -> None:
    references = {key: normalize_text(text) for key, text in sorted(read_table(args.ref).items())}
    systems = [read_system("hyp", args.hyp, references)]
    if args.hyp2 is not None:
        systems.append(read_system("hyp2", args.hyp2, references))

    summary: dict = {"ref": str(args.ref), "utterances": len(references), "systems": {}}
    rows = [["system", "utterances", "words", "WER % [95%]", "CER % [95%]"]]
    for system in systems:
        results = {rate: error_rate(system.counts[rate]) for rate in UNITS}
        for rate, result in results.items():
            name = "result.txt" if system.name == "hyp" else f"result_{system.name}.txt"
            text = result_text(system, rate, references, result)
            write_text(args.output_dir / f"score_{rate}" / name, text)
        summary["systems"][system.name] = {
            "text": str(system.path),
            "missing": system.missing,
            **{rate: dataclasses.asdict(result) for rate, result in results.items()},
        }
        if system.name == "hyp":
            summary["metrics"] = {rate: metric(r.rate, r) for rate, r in results.items()}
        words = str(results["wer"].reference_length)
        rows.append([str(system.path), str(len(references)), words])
        rows[-1] += [_percent(results[rate]) for rate in UNITS]
    if len(systems) == 2:
        first, second = (system.counts for system in systems)
        differences = {rate: error_rate_difference(first[rate], second[rate]) for rate in UNITS}
        summary["difference"] = {k: dataclasses.asdict(v) for k, v in differences.items()}
        rows.append(["second minus first", "", "", *map(_percent, differences.values())])
    write_text(args.output_dir / SCORES, json.dumps(summary, indent=2) + "\n")
    print(table(rows))


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ref", type=Path, required=True, help="reference: 'utterance text' lines")
    parser.add_argument("--hyp", type=Path, required=True, help="hypotheses, in the same form")
    parser.add_argument("--hyp2", type=Path, help="hypotheses of a second system to compare")
    parser.add_argument(
        "--output_dir",
        type=Path,
        required=True,
        help="for score_wer/result.txt, score_cer/result.txt (of a second system: "
        "result_hyp2.txt) and scores.json (rates as fractions)",
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
