"""Results of pruning experiments: encoder directories with a plot, tables and figures."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from espnet_prune.evaluate import pruning_plots, report
from espnet_prune.evaluate.environment import environment_report
from espnet_prune.evaluate.report import table, with_interval
from espnet_prune.files.reading import read_record, read_rows
from espnet_prune.files.writing import write_json, write_text
from espnet_prune.structured import Cost, SpeechEncoder, load_encoder
from espnet_prune.structured.cost.measure import time_encoders
from espnet_prune.structured.encoder_directory import (
    CARD,
    PLOT,
    SUMMARY,
    size_line,
    sizes,
    write_encoder,
)
from espnet_prune.structured.heads import Head
from espnet_prune.structured.model_card import model_card

#: histories in a training directory: a row for each forward pass, and for each validation
HISTORY, VALIDATION = "updates.jsonl", "valid.jsonl"
_SEED = re.compile(r"_seed\d+$")
_SIZE, _LOSS = "parameters (M)", "held-out loss"
#: experiment -> numbers of its runs with different seeds
Groups = dict[str, list[dict[str, float]]]


def write_pruned(
    encoder: SpeechEncoder,
    summary: Mapping,
    output_dir: Path,
    cost: Cost = "parameters",
    head: Head | None = None,
) -> None:
    """Write an encoder directory with sizes in its summary and a plot, and print the sizes.

    Args:
        summary: what led to the encoder.
        cost: what was pruned by; what a latency table predicts is added to the summary.
        head: what follows the encoder.
    """
    summary = {**summary, **sizes(encoder, cost)}
    dense, masks = encoder.outline({}).plan(), encoder.plan().masks()
    plot = partial(pruning_plots.plot_kept, dense, masks)
    write_encoder(encoder, output_dir, summary, lambda work: plot(work / PLOT), head)
    print(f"{output_dir}: {size_line(summary)}")


def read_history(path: Path) -> list[dict[str, float]]:
    """Rows of `HISTORY` or `VALIDATION`, [] where there is no such file."""
    return read_rows(path) if path.is_file() else []


def compare_trainings(run: Sequence[Sequence[str]], last: int, output: Path) -> str:
    """Plot sparsity and loss of several trainings over updates; returns a table of means.

    Args:
        run: name and training directory of each (ValueError: no history, or one without gates).
        last: updates to take means over.
    """
    keys = ("sparsity_expected", "sparsity_exact", "distill")
    runs, rows = {}, [["run", "updates", *keys]]
    for name, directory in run:
        history = read_history(Path(directory) / HISTORY)
        if not history or keys[0] not in history[-1]:
            raise ValueError(f"{directory}/{HISTORY}: missing, or of a run without gates")
        runs[name] = history
        means = [statistics.fmean(row[key] for row in history[-last:]) for key in keys]
        rows.append([name, str(len(history)), *(f"{mean:.4f}" for mean in means)])
    pruning_plots.plot_compare(runs, output)
    return table(rows)


def size_rows(
    dense: SpeechEncoder, pruned: SpeechEncoder, seconds: float, repeats: int
) -> tuple[list[list[str]], dict[str, dict[str, float]]]:
    """Head and rows of the table of sizes and speeds, and the same as numbers.

    Speed is measured here and now: the two models take turns on the same audio.
    """
    timings = time_encoders([dense, pruned], seconds, repeats)
    rows = [["", "parameters (M)", "G MACs / s of audio", "real-time factor (least to greatest)"]]
    numbers: dict[str, dict[str, float]] = {}
    for name, encoder, timing in zip(("dense", "pruned"), (dense, pruned), timings, strict=True):
        plan = encoder.plan(seconds)
        parameters, macs = float(plan.parameters()), float(plan.macs())
        rtf, low, high = (timing.percentile(q) / seconds for q in (50, 0, 100))
        numbers[name] = {"parameters": parameters, "macs_per_second": macs}
        numbers[name] |= {"rtf": rtf, "rtf_least": low, "rtf_greatest": high}
        cells = [f"{parameters / 1e6:.3f}", f"{macs / 1e9:.4f}"]
        rows.append([name, *cells, f"{rtf:.4f} ({low:.4f} to {high:.4f})"])
    less = {key: numbers["pruned"][key] / numbers["dense"][key] for key in numbers["dense"]}
    changes = [f"{100 * (less[key] - 1):+.1f}%" for key in ("parameters", "macs_per_second")]
    rows.append(["pruned against dense", *changes, f"{1 / less['rtf']:.2f}x faster"])
    return rows, numbers


def score_rows(score: Sequence[Sequence[str]]) -> list[list[str]]:
    """Head and rows of the table of WER and CER.

    Args:
        score: label and scores.json of `espnet-prune score text` (first system: pruned).
    """
    rows = [["task and test set", "rate", "dense", "pruned", "pruned minus dense, paired"]]
    for label, path in score:
        found = read_record(path, hint="run the scoring stage first")
        for unit in ("wer", "cer"):
            rates = (found["systems"][system][unit] for system in ("hyp2", "hyp"))
            cells = [with_interval(each["rate"], each["low"], each["high"]) for each in rates]
            less = found["difference"][unit]  # dense minus pruned: ends change places with the sign
            more = with_interval(-less["difference"], -less["high"], -less["low"], sign="+")
            first = [f"{label} ({found['utterances']} utterances)", f"{unit.upper()} %"]
            rows.append([*first, *cells, more])
    return rows


class Card(NamedTuple):
    """What the model card of a part of an experiment says, `…` standing for its repository.

    Attributes:
        title: with {family} for the encoder's.
        loading, code: what loads it, and how.
        tags: for the hub.
        ending: of its repository's name.
    """

    title: str
    loading: str
    code: str
    tags: tuple[str, ...]
    ending: str = ""


ENCODER = Card(
    "Pruned {family} encoder",
    "espnet_prune loads it (`pip install espnet_prune`), and ESPnet as `frontend: pruned_ssl` or "
    "`encoder: pruned_ssl`.",
    'import espnet_prune\n\nencoder = espnet_prune.load_encoder("…")',
    ("espnet",),
)
ASR = Card(
    "ASR on a pruned {family} encoder",
    "ESPnet loads it, after `pip install espnet_prune`.",
    "import espnet_prune\nfrom espnet2.bin.asr_inference import Speech2Text\n\n"
    'espnet_prune.register()\nrecognize = Speech2Text.from_pretrained("…")',
    ("espnet", "audio", "automatic-speech-recognition"),
    "-asr",
)


def write_results(
    dense: str,
    exp: Path,
    score: Sequence[Sequence[str]],
    command: str = "",
    seconds: float = 30.0,
    repeats: int = 7,
    base_model: str = "",
    license_name: str = "",
    repo: str = "",
    asr: Path | None = None,
) -> str:
    """Write RESULTS.md and results.json of an experiment: size, speed and scores; and model cards.

    Args:
        dense: directory or hub name of the dense model.
        exp: experiment; its pruned/ is compared, and gets a card.
        score: as in `score_rows`.
        command: that made the experiment.
        seconds, repeats: length of the timed audio, and timed runs of each model.
        base_model, license_name: as for `model_card`; the first is `dense` when empty.
        repo: repository that the encoder is uploaded to; ASR goes to one that ends with -asr.
        asr: directory of ASR on top of the pruned encoder, which gets a card, too.
    Returns: the text of RESULTS.md.
    """
    encoders = load_encoder(dense).eval(), load_encoder(exp / "pruned").eval()
    rows, numbers = size_rows(*encoders, seconds, repeats)
    parts = [f"Made by `{command}` (one run)."] if command else []
    speed = (
        f"Costs for {seconds:g} s of audio; real-time factor: median of {repeats} runs "
        f"of each model in turn, batch 1, {torch.get_num_threads()} threads, same process."
    )
    parts += ["## Size and speed of the encoder", table(rows), speed]
    found: dict[str, dict] = {"size": numbers}
    slimmed = exp / "slim" / SUMMARY
    if slimmed.is_file():
        found["slim"] = read_record(slimmed)
        target, exact, cost = (found["slim"][key] for key in ("target", "exact", "cost"))
        cost = {"macs": "MACs", "latency": "latency by the table"}.get(cost, cost)
        parts.append(f"Sparsity asked for: {target:.2%} of the {cost}, exact: {exact:.2%}.")
    if score:
        title = "## Scores (percent, with 95% bootstrap intervals over utterances)"
        parts += [title, table(score_rows(score))]
    for made, folder in ((ENCODER, exp / "pruned"), (ASR, asr)):
        if folder is not None:
            text = model_card(
                made.title.format(family=encoders[1].family),
                made.loading,
                made.code.replace("…", f"{repo}{made.ending}" if repo else "…"),
                [*parts, environment_report().strip()],
                tags=made.tags,
                base_model=base_model or dense,
                license_name=license_name,
            )
            write_text(folder / CARD, text)
    parts = ["# Results", *parts]
    parts += ["## What is left of each layer", f"![kept sizes](pruned/{PLOT})"]
    if (exp / "prune" / "images" / "course.png").is_file():
        pruning_plots.plot_gates(exp / "gates.png")
        parts += ["## Course of pruning", "![course](prune/images/course.png)"]
        parts += ["## A gate", "![z and s_bar](gates.png)"]
    write_json(exp / "results.json", found)
    return report.write_results(exp, parts)


def read_experiment(exp: Path, scores: list[str]) -> dict[str, float]:
    """Numbers of an experiment; arguments as of `compare_experiments`."""
    hint = "run the experiment to its end first"
    summary = read_record(exp / "pruned" / SUMMARY, hint=hint)
    row = {_SIZE: summary["parameters"] / 1e6, "G MACs/s": summary["macs_per_second"] / 1e9}
    row[_LOSS] = read_rows(exp / "distill" / VALIDATION, hint)[-1]["distill"]
    for score in scores:
        found = read_record(exp / score, hint=hint)["systems"]["hyp"]
        name = Path(score).parent.name
        row[f"WER % {name}"] = 100 * found["wer"]["rate"]
        row[f"CER % {name}"] = 100 * found["cer"]["rate"]
    return row


def experiment_rows(groups: Groups) -> list[list[str]]:
    """Head and rows: the mean over seeds of each number, and the range."""
    rows = [["experiment", "runs", *next(iter(groups.values()))[0]]]
    for name, runs in groups.items():
        cells = []
        for key in runs[0]:
            values = [run[key] for run in runs]
            digits = 1 if "%" in key else 4
            text = f"{statistics.mean(values):.{digits}f}"
            if len(runs) > 1:
                text += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
            cells.append(text)
        rows.append([name, str(len(runs)), *cells])
    return rows


def compare_experiments(experiments: list[Path], score: list[str], output: Path | None) -> str:
    """The table of several experiments; those that differ only in their seed are put together.

    Args:
        experiments: experiment directories of the recipe `ssl_prune1`.
        score: names of `scores.json` files in each, relative.
        output: file to write the table to; beside it goes the figure of `plot_experiments`, as PNG.
    """
    groups: Groups = {}
    for exp in experiments:
        groups.setdefault(_SEED.sub("", exp.name), []).append(read_experiment(exp, score))
    rows = experiment_rows(groups)
    text = table(rows)
    if output:
        write_text(output, text + "\n")
        keys = [_LOSS, *(key for key in rows[0] if key.startswith("WER"))]
        pruning_plots.plot_experiments(groups, _SIZE, keys, output.with_suffix(".png"))
    return text
