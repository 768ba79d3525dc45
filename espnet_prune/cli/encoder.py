"""`espnet-prune encoder`: prune, slim, export, import and compare speech encoders."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from espnet_prune.cli.options import (
    above_zero,
    add_machine,
    add_runner,
    calls,
    true_or_false,
    whole,
)

TO_WRITE = {"type": Path, "required": True, "help": "directory to write"}


def prune(parser: ArgumentParser):
    """Prune a speech encoder on audio, without ESPnet's trainer.

    The method one_shot trains nothing: units that cost least are removed, and the others make up
    for them by least squares, in a few minutes. With l0, gates are learned together with the
    weights, and what they drop is removed. After either, --distill_updates distil the smaller
    encoder from the dense one. Recipes (egs2/*/ssl_prune1) do this for large data.

    With --asr_train_config and --asr_model_file instead of a model, the encoder of a trained model
    of ESPnet is pruned: transformer, conformer, branchformer or e_branchformer. Gates and
    distillation hold its output to that of the dense one.
    The output is an experiment directory with config.yaml, weights of the same name, and train.yaml
    to fine-tune with.
    """
    add = parser.add_argument
    add("model", nargs="?", help="directory or hub name of a speech encoder")
    add("data", nargs="+", type=Path, help="audio files, folders of audio, or data directories")
    add("--target", type=float, default=0.5, help="share of the cost to remove")
    add("--output_dir", type=Path, required=True, help="encoder directory to write")
    costs = ("parameters", "macs")
    add("--cost", choices=costs, default="parameters", help="what the target is a share of")
    add("--method", choices=("one_shot", "l0"), default="one_shot", help="how to choose what goes")
    text = "of attention: equal heads are the fastest, stock is what other engines run"
    add("--layout", choices=("free", "equal", "stock"), default="free", help=text)
    add("--updates", type=whole(1), default=150, help="updates with gates, of l0")
    text = "updates after slimming (default: 450 for l0, none for one_shot)"
    add("--distill_updates", type=whole(0), help=text)
    add("--seed", type=whole(0), default=0, help="seed of gates and order of audio")
    add("--device", help="cpu or cuda (default: cuda where there is a GPU)")
    add(
        "--asr_train_config",
        type=Path,
        help="config.yaml of a model of ESPnet: asr, s2t, ssl or st",
    )
    add("--asr_model_file", type=Path, help="its weights, a .pth")

    def run(args):
        options = dict(vars(args))
        files = [options.pop(name) for name in ("asr_train_config", "asr_model_file")]
        model, data = options.pop("model"), options.pop("data")
        if any(files):
            # argparse takes the first of several paths for the model
            data = [*([Path(model)] if model else []), *data]
            _check_of_asr(files, options)
            from espnet_prune.plugin.prune_espnet import prune_asr

            prune_asr(*files, data, **options)
            return
        if model is None:
            raise ValueError("give a model and audio, or --asr_train_config and --asr_model_file")
        from espnet_prune.api import prune

        prune(model, data, **options)

    return run


def _check_of_asr(files: list[Path | None], options: dict) -> None:
    """
    Raises:
        ValueError: a file is not given, or an option is set that is not for such encoders.
    """
    if not all(files):
        raise ValueError("--asr_train_config and --asr_model_file belong together: give both")
    if options["layout"] == "stock":
        raise ValueError("--layout stock is for Whisper; give free or equal for an ASR model")


def slim(parser: ArgumentParser):
    """Turn a training directory of the task ssl_prune into an encoder directory.

    Of a model with gates, the units that its hard masks drop are physically removed. A model
    without gates (second phase) is written as it is. The directory holds config.json,
    model.safetensors, kept.png (what is left of every layer) and summary.json. With --all_targets
    true, each of pruning_conf.targets gets a directory OUTPUT_DIR_<target> from the weights that
    training kept for it. With --calibrate false, units with log_alpha >= 0 stay; else the gates'
    threshold is moved to where the exact sparsity is nearest to the target.
    """
    add = parser.add_argument
    add("--train_dir", type=Path, required=True, help="training directory")
    add("--model_file", help="weights in it (default: latest.pth, or those kept for --target)")
    add("--target", type=float, help="share of the cost to remove (default: the last target)")
    add("--output_dir", **TO_WRITE)
    add("--all_targets", type=true_or_false, default=False, help="true writes every target")
    add("--calibrate", type=true_or_false, default=True, help="false takes the gates as they are")
    return calls("plugin.trained_model.slim_training")


def one_shot(parser: ArgumentParser):
    """Prune an encoder in one shot on a data directory: the first step of a recipe.

    The options after -- are those of the training, as for `encoder random`, without round_to;
    pruning_conf.compensate=false leaves the weights of what stays as they are.
    """
    add = parser.add_argument
    add("--teacher", required=True, help="directory or hub name of the dense model")
    add("--data", type=Path, required=True, help="data directory")
    add("--seed", type=whole(0), default=0, help="seed of audio and sensitivity (default: 0)")
    add("--output_dir", **TO_WRITE)
    add("training", nargs="*", metavar="-- OPTION", help="options of the training")
    return calls("plugin.trained_model.prune_in_one_shot")


def random(parser: ArgumentParser):
    """Prune an encoder at random to an exact size: a baseline.

    Units inside heads and feed-forward layers and CNN channels are dropped uniformly at random.
    Whole heads and sub-layers are not, which would only weaken the baseline.

    The options after -- are those of the training (espnet_prune.bin.ssl_prune_train); --config and
    --pruning_conf count, with target, cost, latency_table, protected, round_to and layout. E.g.
    -- --config conf/prune.yaml --pruning_conf target=0.7
    """
    add = parser.add_argument
    add("--teacher", required=True, help="directory or hub name of the dense model")
    add("--seed", type=whole(0), default=0, help="seed of the choice (default: 0)")
    add("--output_dir", **TO_WRITE)
    add("training", nargs="*", metavar="-- OPTION", help="options of the training")
    return calls("plugin.trained_model.prune_randomly")


def scratch(parser: ArgumentParser):
    """Make an encoder of a pruned one's sizes with random weights: a baseline.

    Distilled, it shows what pruning is worth beyond its sizes. Weights are drawn for the dense
    model as its family initialises it, and cut to the sizes. What is not trained (Whisper's
    sinusoidal positions) is kept.
    """
    add = parser.add_argument
    add("--like", required=True, help="directory of the pruned encoder")
    add("--seed", type=whole(0), default=0, help="seed of the weights (default: 0)")
    add("--output_dir", **TO_WRITE)

    def run(args):
        from espnet_prune.evaluate.pruning_report import write_pruned
        from espnet_prune.structured import load_encoder
        from espnet_prune.structured.baselines import from_scratch
        from espnet_prune.structured.encoder_directory import check_directory, sizes

        check_directory(args.output_dir)
        student = from_scratch(load_encoder(args.like), args.seed)
        found = sizes(student)
        exact = 1 - found["parameters"] / found["dense_parameters"]
        summary = {"target": exact, "cost": "parameters", "exact": exact, "seed": args.seed}
        write_pruned(student, summary, args.output_dir)

    return run


def export(parser: ArgumentParser):
    """Export a dense or pruned encoder to ONNX, transformers or CTranslate2.

    What the other engine gives is compared with this package before anything is written.

    onnx: the graph takes `speech` (B, T), 16 kHz waveforms of one length, and gives
    `last_hidden_state` (B, T', D), or `hidden_0` to `hidden_L` with --all_layers. Whisper's window
    is as long as the speech. Weights of 2 GB and more come into a second file, <output>.data.

    transformers: a directory with the head that the model has (CTC, classification, x-vectors),
    the files of its processor, and a model card that says how it is loaded: by transformers' own
    class where that has such sizes, else by one of espnet_prune.

    ctranslate2: a directory of a whole Whisper for CTranslate2 and faster-whisper. The encoder is
    dense, or was pruned with the layout stock.
    """
    add = parser.add_argument
    add("--model", required=True, help="directory or hub name of an encoder")
    formats = ("onnx", "transformers", "ctranslate2")
    add("--to", choices=formats, default="onnx", help="format (default: onnx)")
    add("--output", type=Path, required=True, help="file *.onnx, or directory, to write")
    text = "onnx: true gives all hidden states (default: false)"
    add("--all_layers", type=true_or_false, default=False, help=text)
    text = "ctranslate2: directory of the whole Whisper that the encoder is of (default: --model)"
    add("--whisper", help=text)
    kinds = ("float32", "float16", "int8", "int8_float32", "int8_float16", "int16")
    text = "ctranslate2: how weights are stored (default: float32)"
    add("--quantization", choices=kinds, default="float32", help=text)

    def run(args):
        import logging

        if args.to == "transformers":
            from espnet_prune.structured.export.transformers import export_transformers

            loads = export_transformers(args.model, args.output)
            print(f"{args.output}: for {loads}")
            return

        from espnet_prune.structured import load_encoder

        encoder = load_encoder(args.model)
        if args.to == "onnx":
            from espnet_prune.structured.export.onnx import export_onnx

            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            difference = export_onnx(encoder, args.output, args.all_layers)
            beside = args.output.with_name(f"{args.output.name}.data")
            files = [args.output, *([beside] if beside.exists() else [])]
        else:
            from espnet_prune.structured.export.ctranslate2 import export_ctranslate2

            whisper = args.whisper or args.model
            difference = export_ctranslate2(encoder, whisper, args.output, args.quantization)
            files = list(args.output.iterdir())
        size = f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"
        said = f"differs from torch by {difference:.1e} of the largest number"
        print(f"{args.output}: {size}, {said}")

    return run


def import_(parser: ArgumentParser):
    """Turn a checkpoint of fairseq, torchaudio or DPHuBERT into an encoder directory.

    The command reads wav2vec 2.0, HuBERT and WavLM: fairseq's .pt (pre-trained or fine-tuned; also
    Microsoft's WavLM and s3prl's conversions), the state dicts of torchaudio's bundles, and the
    slimmed models of DPHuBERT, DPWavLM and DiariZen. It recognises the format by the file. The
    directory works wherever a model directory does.
    """
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="file (.pt, .pth, .bin)")
    add("--output_dir", **TO_WRITE)

    def run(args):
        from espnet_prune.structured.checkpoints import import_checkpoint
        from espnet_prune.structured.encoder_directory import check_directory, write_encoder

        check_directory(args.output_dir)
        kind, encoder = import_checkpoint(args.checkpoint)
        write_encoder(encoder, args.output_dir)
        parameters = sum(p.numel() for p in encoder.parameters())
        slimmed = ", already slimmed" if encoder.config.kept else ""
        print(
            f"{args.output_dir}: {encoder.family} of {kind} format, {encoder.num_layers} layers, "
            f"{parameters / 1e6:.3f} M parameters{slimmed}"
        )

    return run


def profile(parser: ArgumentParser):
    """Show parameters, MACs, speed and memory of encoders side by side.

    The models take turns on the same noise. MACs are given twice: from the family's declaration,
    by which pruning goes, and counted by torch while the model runs. Ratios are against the first
    model.
    """
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="directories or hub names")
    _add_timing(parser, seconds=10.0, repeats=20)
    add("--depth", type=whole(0), default=0, help="table of modules down to this depth")
    add("--output", type=Path, help="JSON file for all numbers, every module's too")

    def run(args):
        _check_above_zero(args)
        if len(set(args.models)) < len(args.models):
            raise ValueError("a model is given twice")

        from espnet_prune.evaluate.measuring import use_machine, write_report
        from espnet_prune.evaluate.report import table
        from espnet_prune.structured import load_encoder
        from espnet_prune.structured.cost.profile import module_rows, profile, profile_rows

        dtype = use_machine(args)
        encoders = {name: load_encoder(name).eval().to(args.device, dtype) for name in args.models}
        found = profile(encoders, args.seconds, args.batch, args.repeats)
        conditions = f"{_conditions(args)}, {args.repeats} passes of each model in turn"
        print(table(profile_rows(found)), f"\n{conditions}", sep="\n")
        if args.depth:
            print("\n" + table(module_rows(found, args.depth)))
        if args.output:
            write_report(args.output, conditions, models=found)

    return run


def latency(parser: ArgumentParser):
    """Measure how long the parts of a model take, for a target in latency.

    Random weights of the model's shapes are timed: attention by number of heads and their mean
    query-key and value-output sizes, feed-forward layers by dimensions, CNN layers by channels in
    and out, each at one unit, the quarters (within heads the half) and the whole. Layers of one
    shape share a measurement. Models of random sizes show how far the table's sums are off. Other
    jobs on the machine spoil it. Use the file in `pruning_conf: {cost: latency, latency_table:
    FILE}`.
    """
    add = parser.add_argument
    add("--model", required=True, help="directory, hub name or file like config.json; no weights")
    add("--output", type=Path, required=True, help="JSON file to write")
    _add_timing(parser, seconds=None, repeats=5)

    def run(args):
        _check_above_zero(args)

        import numpy as np
        import torch

        from espnet_prune.evaluate.measuring import conditions_of, use_machine, write_report
        from espnet_prune.evaluate.report import table
        from espnet_prune.structured.cost.block_times import CHECKS, measure
        from espnet_prune.structured.cost.profile import latency_rows
        from espnet_prune.structured.encoder import random_encoder

        dtype = use_machine(args)
        torch.manual_seed(0)
        dense = random_encoder(args.model).to(args.device, dtype)
        parameters = float(dense.plan().parameters()) / 1e6
        if args.seconds is None:
            args.seconds = dense.family_of.default_seconds(dense.config.base)
        words = f"{dense.family} with {parameters:.2f} M parameters ({args.model})"
        found = measure(dense, args.seconds, args.repeats, args.batch, words)
        found.table.conditions.update(conditions_of(args))
        errors = (found.predicted / found.measured - 1)[-CHECKS:]
        passes = f"median of {args.repeats} passes of {len(found.measured)} models in turn"
        conditions = f"{_conditions(args)}, {passes}"
        trials = {"measured": found.measured.tolist(), "predicted": found.predicted.tolist()}
        numbers = {**found.table.to_json(), "trials": trials, "checks": CHECKS}
        write_report(args.output, conditions, **numbers)
        print(
            table(latency_rows(found.table)),
            f"\n{conditions}. Dense model {1000 * found.measured[0]:.1f} ms, of which "
            f"{1000 * found.table.rest:.1f} ms outside these blocks.",
            f"The table's sums against {CHECKS} models of random sizes that it was not made from: "
            f"median error {np.median(np.abs(errors)):.1%}, "
            f"{errors.min():+.1%} to {errors.max():+.1%}.",
            f"{args.output}: written",
            sep="\n",
        )

    return run


def compare(parser: ArgumentParser):
    """Plot sparsity and distillation loss over updates of several trainings.

    The table has the means of the last updates, e.g. to compare training with and without the
    straight-through estimator.
    """
    add = parser.add_argument
    pair = {"nargs": 2, "action": "append", "metavar": ("NAME", "DIR")}
    add("--run", required=True, **pair, help="name in the plot and training directory of a run")
    add("--last", type=whole(1), default=25, help="updates in the means (default: 25)")
    add("--output", type=Path, required=True, help="PNG file to write")
    return calls("evaluate.pruning_report.compare_trainings")


def results(parser: ArgumentParser):
    """Write RESULTS.md of a pruning experiment (size, speed and scores), and model cards.

    The cards are README.md of the pruned encoder, and of ASR on top of it. Speed is measured here
    and now: dense and pruned model take turns on the same audio, and the medians of one run are
    compared.
    """
    add = parser.add_argument
    add("--dense", required=True, help="directory or hub name of the dense model")
    add("--exp", type=Path, required=True, help="experiment; its pruned/ is read")
    pair = {"nargs": 2, "action": "append", "metavar": ("LABEL", "JSON"), "default": []}
    add("--score", **pair, help="scores.json of `score text` with --hyp pruned --hyp2 dense")
    add("--command", default="", help="command that made the experiment")
    add("--seconds", type=above_zero, default=30.0, help="length of the timed audio")
    add("--repeats", type=whole(1), default=7, help="timed runs of each model")
    add("--asr", type=Path, help="directory of ASR on the pruned encoder, which gets a card, too")
    text = "for the cards: name of what was pruned (default: --dense)"
    add("--base_model", default="", help=text)
    text = "for the cards: licence as the hub names it, such as mit"
    add("--license_name", default="", help=text)
    text = "for the cards: repository of the encoder; that of ASR ends with -asr"
    add("--repo", default="", help=text)
    return calls("evaluate.pruning_report.write_results")


def table(parser: ArgumentParser):
    """Show several pruning experiments in one table: size, held-out distillation loss, WER.

    Experiments that differ only in their seed share a row (mean, and the range over seeds). Beside
    the table in FILE.md, FILE.png has loss and WER against parameters; experiments that differ only
    in the number at the end of their names, such as ours_0.5 and ours_0.7, are a line.
    """
    add = parser.add_argument
    add("experiments", nargs="+", type=Path, help="experiment directories")
    text = "a scores.json inside every experiment, e.g. whisper/test_en/scores.json"
    add("--score", action="append", default=[], metavar="FILE", help=text)
    add("--output", type=Path, help="file to write the table to, with the plot")
    return calls("evaluate.pruning_report.compare_experiments")


def size(parser: ArgumentParser):
    """Print base or large: the size of a WavLM, HuBERT or wav2vec 2.0."""
    parser.add_argument("model", help="hub name or directory")
    return calls("plugin.training_config.model_size")


def removed_share(parser: ArgumentParser):
    """Print the share of the dense encoder's parameters that a pruned encoder lacks."""
    parser.add_argument("pruned", help="directory of the encoder")

    def run(args):
        from espnet_prune.structured.encoder_directory import removed_share

        print(f"{round(removed_share(args.pruned), 2):g}")

    return run


def spread_updates(parser: ArgumentParser):
    """Write a training config whose updates hear the same audio on several GPUs."""
    add = parser.add_argument
    add("source", help="config for one GPU")
    add("target", help="file to write")
    add("--gpus", type=int, default=1, help="GPUs on all nodes (default: 1)")
    add("--accum_grad", type=int, help="forward passes of an update (default: divided among GPUs)")
    return calls("plugin.training_config.write_spread")


def sweep(parser: ArgumentParser):
    """Run a pruning recipe at several sizes against other methods with the same number of updates.

    Call it in the recipe's directory, after stages 1 to 3 of its run.sh (data and teacher).
      ours     in one shot: dimensions inside heads, heads, feed-forward, CNN
      heads    the same, but attention is pruned by whole heads only
      masks    the units of ours go, but what stays does not make up for them
      l0       gates that are learned while distilling
      noste    as l0, but without the straight-through estimator
      random   random structured pruning, then distillation
      scratch  random weights in the sizes of ours, then distillation
    EXPDIR gets a table and a plot of loss and WER against parameters and, with l0 and noste, a
    plot of the course of both (ste_TARGET.png). Finished runs are not repeated.
    """
    add = parser.add_argument
    add("--targets", nargs="+", default=["0.5", "0.7", "0.3"], help="parameters to remove")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of target 0.5; others have seed 0")
    add("--methods", nargs="+", default=["ours", "heads", "random"], help="rows of the table")
    text = "of both trainings together (default: 600; in debug runs 12)"
    add("--updates", type=whole(1), help=text)
    add("--expdir", type=Path, help="as in run.sh (default: exp; in debug runs exp_debug)")
    add("--output", default="TABLE.md", help="name of the table in EXPDIR")
    add_runner(parser)
    return calls("launch.sweeps.prune_sweep")


def _add_timing(parser: ArgumentParser, seconds: float | None, repeats: int) -> None:
    add = parser.add_argument
    default = "the model's window, 10 without one" if seconds is None else f"{seconds:g}"
    add("--seconds", type=float, default=seconds, help=f"length of an utterance ({default})")
    add("--batch", type=int, default=1, help="utterances at a time (default: 1)")
    add("--repeats", type=int, default=repeats, help=f"timed passes of each model ({repeats})")
    add_machine(parser)


def _check_above_zero(args: Namespace) -> None:
    for name in ("seconds", "batch", "repeats"):
        value = getattr(args, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"--{name} is {value}, but has to be above 0")


def _conditions(args: Namespace) -> str:
    import torch

    machine = f"{args.dtype}, {args.device}, {torch.get_num_threads()} threads"
    return f"{args.seconds:g} s of audio, batch {args.batch}, {machine}"


VERBS = {
    "prune": prune,
    "one-shot": one_shot,
    "slim": slim,
    "random": random,
    "scratch": scratch,
    "export": export,
    "import": import_,
    "profile": profile,
    "latency": latency,
    "compare": compare,
    "results": results,
    "table": table,
    "size": size,
    "removed-share": removed_share,
    "spread-updates": spread_updates,
    "sweep": sweep,
}
