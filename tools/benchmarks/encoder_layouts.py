"""Speed of random models of true size: dense in every implementation, pruned in several layouts.

Random weights take as long as trained ones. Pruned models have the same number of parameters (or
another cost) in every layout, and about the same share of every layer left, in sizes that differ
from head to head unless the layout says otherwise. Models whose sizes gates have learned can be
given. All models take turns in one process.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
import torchaudio
from transformers import AutoConfig, AutoModel

from espnet_prune.cli import errors as cli
from espnet_prune.cli.options import add_machine
from espnet_prune.evaluate.measuring import conditions_of, use_machine, write_report
from espnet_prune.evaluate.report import table
from espnet_prune.structured import (
    Cost,
    GatedEncoder,
    LatencyTable,
    SpeechEncoder,
    SpeechEncoderConfig,
    load_encoder,
    slim,
)
from espnet_prune.structured.baselines import prune_at_random
from espnet_prune.structured.cost.measure import time_in_turns
from espnet_prune.structured.distill.model import COSTS

_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
}
#: name -> (type of the model in `transformers`, its sizes, maker of the same in torchaudio)
ARCHITECTURES = {
    "wavlm_base_plus": ("wavlm", {}, torchaudio.models.wavlm_base),
    "wavlm_large": ("wavlm", _LARGE, torchaudio.models.wavlm_large),
    "hubert_base": ("hubert", {}, torchaudio.models.hubert_base),
    "hubert_large": ("hubert", _LARGE, torchaudio.models.hubert_large),
    "wav2vec2_base": ("wav2vec2", {}, torchaudio.models.wav2vec2_base),
    "wav2vec2_large": ("wav2vec2", _LARGE, torchaudio.models.wav2vec2_large_lv60k),
}
#: keys of a model's configuration that an architecture is known by
_SHAPES = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "conv_dim",
)
_CNN_TOO = ("pos_conv",)
#: what stays whole in each layout, and how sizes are chosen (`prune`)
LAYOUTS = {
    "Transformer": (("cnn", "pos_conv"), "random"),
    "Transformer and CNN": (_CNN_TOO, "random"),
    "all": ((), "random"),
    "Transformer and CNN, uniform": (_CNN_TOO, "uniform"),
    "Transformer and CNN, whole heads": (_CNN_TOO, "whole heads"),
}


def dense_models(
    name: str, device: str, dtype: torch.dtype
) -> dict[str, Callable[[torch.Tensor, torch.Tensor], object]]:
    """Implementations of the dense model: ours, transformers' and torchaudio's."""
    kind, sizes, other = ARCHITECTURES[name]
    config = AutoConfig.for_model(kind, **sizes)
    ours = SpeechEncoder(SpeechEncoderConfig(family=kind, base=config.to_dict()))
    models: dict[str, torch.nn.Module] = {"dense, this package": ours}
    for attention in ("eager", "sdpa"):
        try:
            model = AutoModel.from_config(config, attn_implementation=attention)
        except ValueError:  # the family has no such attention
            continue
        models[f"dense, transformers {attention}"] = model
    models["dense, torchaudio"] = other()
    calls: dict[str, Callable] = {}
    for label, model in models.items():
        model.eval().to(device, dtype)
        # The others are given no lengths: one utterance, or all of the same length
        calls[label] = model if model is ours else partial(_without_lengths, model)
    return calls


def _without_lengths(model, speech, _lengths):
    return model(speech)


def prune(
    encoder: SpeechEncoder,
    target: float,
    protected: Iterable[str],
    sizes: str,
    round_to: int,
    cost: Cost = "parameters",
) -> tuple[SpeechEncoder, float]:
    """A slimmed copy and its exact sparsity.

    Args:
        sizes: "random" drops units at random, so that sizes of layers and heads differ; "uniform"
            leaves every layer and every head the same share; "whole heads" drops as large a share
            of the heads of each layer, and none of their dimensions.
    """
    if sizes == "random":
        return prune_at_random(encoder, target, cost, protected, round_to=round_to)
    protected = (*protected, *encoder.plan().coarse())
    gated = GatedEncoder(encoder, protected, cost=cost, round_to=round_to)
    with torch.no_grad():
        for name, alpha in gated.log_alphas().items():
            groups = gated.plan.groups(name)
            place = torch.arange(len(groups)) % (len(groups) // len(groups.unique()))
            if sizes == "whole heads" and gated.plan.sites[name].kind in ("qk", "vo"):
                place = groups
            alpha.copy_(1 - (place + 0.5) / (int(place.max()) + 1))
    masks = gated.hard_masks(target)
    return slim(encoder, masks), gated.exact_sparsity(masks)


def read_models(args: argparse.Namespace, dense: SpeechEncoder) -> dict[str, SpeechEncoder]:
    """The slimmed models of --model by their labels."""
    found = {}
    for text in args.model:
        label, equals, directory = text.partition("=")
        if not (label and equals and directory):
            raise ValueError(f"--model is {text}, but has to be LABEL=DIRECTORY")
        small = load_encoder(directory)
        for name in _SHAPES:
            here, there = (model.config.base.get(name) for model in (small, dense))
            if _plain(here) != _plain(there):
                raise ValueError(
                    f"--model {text}: its base has {name} {here}, {args.architecture} {there}"
                )
        found[f"pruned: {label}"] = small
    return found


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def read_table(args: argparse.Namespace) -> LatencyTable | None:
    """The table of --latency_table, which has to hold for what is measured here."""
    if args.latency_table is None:
        if args.cost == "latency":
            raise ValueError("--latency_table: give one, since --cost is latency")
        return None
    found = LatencyTable.load(args.latency_table)
    for name, value in conditions_of(args).items():
        if found.conditions.get(name) != value:
            raise ValueError(
                f"{args.latency_table}: was measured with {name} {found.conditions.get(name)}, "
                f"here it is {value}"
            )
    return found


def run(args: argparse.Namespace) -> None:
    if not 0.0 <= args.target < 1.0:
        raise ValueError(f"--target is {args.target}, but has to be in [0, 1)")
    if args.round_to < 1:
        raise ValueError(f"--round_to is {args.round_to}, but has to be above 0")
    dtype = use_machine(args)
    latencies = read_table(args)
    cost = latencies if args.cost == "latency" else args.cost
    torch.manual_seed(0)
    models = dense_models(args.architecture, args.device, dtype)
    ours = models["dense, this package"]
    sizes = dict.fromkeys(models, float(ours.plan(args.seconds).parameters()))
    dense_macs = float(ours.plan(args.seconds).macs())
    macs = dict.fromkeys(models, dense_macs)
    predicted = {}
    if latencies:
        predicted["dense, this package"] = float(latencies(ours.plan(args.seconds), {}))
    rounding = dict.fromkeys((1, args.round_to))
    learned = read_models(args, ours)
    for (layout, (protected, how)), step in itertools.product(LAYOUTS.items(), rounding):
        label = f"pruned: {layout}" + (f", multiples of {step}" if step > 1 else "")
        try:
            small, exact = prune(ours, args.target, protected, how, step, cost)
        except ValueError as error:
            print(f"{label}: left out, it cannot lose {args.target:.0%} ({error})")
            continue
        if abs(exact - args.target) > 0.005:
            print(f"{label}: left out, it cannot lose {args.target:.0%} (only {exact:.1%})")
            continue
        learned[label] = small
    for label, small in learned.items():
        small.eval().to(args.device, dtype)
        plan = small.plan(args.seconds)
        models[label] = small
        sizes[label], macs[label] = float(plan.parameters()), float(plan.macs())
        if latencies:
            predicted[label] = float(latencies(plan, {}))
    timings = dict(
        zip(
            models,
            time_in_turns(
                list(models.values()), args.seconds, args.repeats, args.batch, args.device, dtype
            ),
            strict=True,
        )
    )
    fastest = min(
        (label for label in models if label.startswith("dense")),
        key=lambda label: timings[label].percentile(50),
    )
    rows = [["model", "parameters (M)", "G MACs/s", "ms (median)", "p90", "speed", "MACs", "used"]]
    rows[0] += ["predicted ms", "error"] if latencies else []
    found = {}
    for label, timing in timings.items():
        speed = timings[fastest].percentile(50) / timing.percentile(50)
        fewer = dense_macs / macs[label]
        found[label] = {
            "parameters": sizes[label],
            "macs_per_second": macs[label],
            "seconds": timing.times.tolist(),
            "speed": speed,
        }
        rows.append(
            [
                label,
                f"{sizes[label] / 1e6:.2f}",
                f"{macs[label] / 1e9:.3f}",
                f"{1000 * timing.percentile(50):.1f}",
                f"{1000 * timing.percentile(90):.1f}",
                f"{speed:.2f}x",
                f"{fewer:.2f}x",
                f"{speed / fewer:.0%}",
            ]
        )
        if label in predicted:
            found[label]["predicted_seconds"] = predicted[label]
            error = predicted[label] / timing.percentile(50) - 1
            rows[-1] += [f"{1000 * predicted[label]:.1f}", f"{error:+.1%}"]
        elif latencies:
            rows[-1] += ["", ""]
    conditions = (
        f"{args.architecture}, random weights, {args.seconds:g} s of audio, batch {args.batch}, "
        f"{args.dtype}, {args.device}, {torch.get_num_threads()} threads, {args.repeats} passes of "
        f"each model in turn. Speed and MACs against the fastest dense one ({fastest}); used: the "
        "speed-up as a share of the ratio of MACs."
    )
    print(table(rows), f"\n{conditions}", sep="\n")
    if args.output:
        write_report(args.output, conditions, models=found)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--architecture", choices=tuple(ARCHITECTURES), default="wavlm_base_plus")
    parser.add_argument("--target", type=float, default=0.72, help="share of the cost to remove")
    parser.add_argument("--cost", choices=COSTS, default="parameters")
    parser.add_argument(
        "--latency_table",
        type=Path,
        help="of `espnet-prune encoder latency`: its predictions beside what is measured",
    )
    parser.add_argument(
        "--round_to",
        type=int,
        default=1,
        help="every layout a second time, with multiples of so many units left",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="LABEL=DIR",
        help="also a slimmed model of this architecture; may be given several times",
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of an utterance")
    parser.add_argument("--batch", type=int, default=1, help="utterances at a time")
    parser.add_argument("--repeats", type=int, default=10, help="timed passes of each model")
    add_machine(parser, ("float32", "bfloat16"))
    parser.add_argument("--output", type=Path, help="JSON file for all numbers")
    return parser


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
