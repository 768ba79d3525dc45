"""ESPnet's trainer, with checkpoints that survive a kill and the course of pruning made visible."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path

import torch
from espnet2.train import trainer
from espnet2.train.reporter import Reporter
from espnet2.train.trainer import Trainer

from espnet_prune.evaluate.pruning_plots import plot_course, plot_kept
from espnet_prune.evaluate.pruning_report import HISTORY, VALIDATION, read_history
from espnet_prune.files.writing import write_file, write_text
from espnet_prune.structured.distill import DistillModel
from espnet_prune.structured.tensor_files import (
    check_finite,
    first_line,
    load_pickled,
    plain_values,
    safe_torch_load,
)

#: weights at the update where the expected sparsity comes to a target on the way
TARGET = "target_{:g}.pth"
#: rows of `updates.jsonl` that an epoch may add
ROWS = 500
#: losses in a row that are no numbers, after which training ends; one can be an overflow of float16
PATIENCE = 10


@contextlib.contextmanager
def atomic_torch_save():
    """While active, `torch.save` to a path writes beside it and renames.

    ESPnet writes `checkpoint.pth` in place; a job killed in that moment could not be resumed.
    """
    save = torch.save

    def save_and_rename(obj, f, *args, **kwargs):
        if not isinstance(f, str | os.PathLike):
            return save(obj, f, *args, **kwargs)

        def write(temporary: Path) -> None:
            # given a name, torch puts it into the file, which has to be the same in every run
            with temporary.open("wb") as file:
                save(obj, file, *args, **kwargs)

        write_file(f, write)

    torch.save = save_and_rename
    try:
        yield
    finally:
        torch.save = save


def read_checkpoint(output_dir: Path) -> tuple[Reporter, dict] | None:
    """What a training has reported up to its checkpoint, and the weights; None without one."""
    checkpoint = output_dir / "checkpoint.pth"
    if not checkpoint.is_file():
        return None
    states, reporter = load_pickled(checkpoint, plain_values()), Reporter()
    try:
        reporter.load_state_dict(states["reporter"])
        reporter.epoch = int(reporter.epoch)
        return reporter, states["model"]
    except (TypeError, LookupError, ValueError):
        raise ValueError(f"{checkpoint}: is no checkpoint of a training") from None


def repair(output_dir: Path, number: int, weights: dict) -> None:
    """Finish what a killed job left between `checkpoint.pth`, of epoch `number`, and the epoch's
    own files."""
    epoch = output_dir / f"{number}epoch.pth"
    if not epoch.is_file():
        torch.save(weights, epoch)
    latest = output_dir / "latest.pth"
    if not latest.exists() or latest.resolve() != epoch.resolve():
        latest.unlink(missing_ok=True)
        latest.symlink_to(epoch.name)


@contextlib.contextmanager
def finite_losses(model: torch.nn.Module, patience: int, where: str):
    """While active, so many losses in a row that are no numbers are an error (ValueError).

    ESPnet leaves such steps out, and such values out of its means: a training that diverged would
    go on to its end.
    """
    count = 0

    def check(_, args, output):
        nonlocal count
        loss = output["loss"] if isinstance(output, dict) else output[0]
        count = 0 if bool(torch.isfinite(loss).all()) else count + 1
        if count >= patience:
            value = float(loss.detach().float().sum())
            times = f" in {count} batches in a row" if count > 1 else ""
            raise ValueError(
                f"{where}: the loss is {value}{times}: the training diverged; lower the learning "
                "rates (optim_conf.lr, pruning_conf.gate_lr) and go on from the epoch before, or "
                "start anew"
            )

    handle = model.register_forward_hook(check)
    try:
        yield
    finally:
        handle.remove()


def mixed_precision() -> dict:
    """What `use_amp` computes in, as arguments of autocast: bfloat16 where the GPU has it, else its
    default, float16. ESPnet takes bfloat16 also where torch only emulates it, which is slow."""
    if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False):
        return {"dtype": torch.bfloat16}
    return {}


def sort_out(output_dir: Path, reporter: Reporter, options) -> None:
    """Link the best epochs and remove the files of others, as ESPnet does after each epoch: a
    killed job has perhaps not come to it."""
    criteria = [each for each in options.best_model_criterion if reporter.has(*each[:2])]
    kept = options.keep_nbest_models
    number = max(kept or [1]) if isinstance(kept, list | tuple) else kept
    best: set[int] = set()
    for phase, key, mode in criteria:
        order = reporter.sort_epochs(phase, key, mode)
        best |= set(order[:number])
        link, name = output_dir / f"{phase}.{key}.best.pth", f"{order[0]}epoch.pth"
        if (output_dir / name).is_file() and not (
            link.is_symlink() and link.readlink() == Path(name)
        ):
            link.unlink(missing_ok=True)
            link.symlink_to(name)
    for epoch in range(1, reporter.get_epoch()):
        if epoch not in best:
            (output_dir / f"{epoch}epoch.pth").unlink(missing_ok=True)


def stops_early(reporter: Reporter, options) -> bool:
    """Whether the training has ended by `patience`; ESPnet would go on when it is resumed."""
    criterion = options.early_stopping_criterion
    if options.patience is None or not reporter.has(*criterion[:2]):
        return False
    return reporter.check_early_stopping(options.patience, *criterion)


def tidy_up(options, writer: bool) -> None:
    """Make ready what a killed training left, before ESPnet goes on with it.

    The writer's part is only for who has the experiment to itself, see `base.Task`: another job's
    files look the same.
    """
    output_dir = Path(options.output_dir)
    for leftover in output_dir.glob(".*.tmp.pth") if writer else ():
        leftover.unlink()
    found = read_checkpoint(output_dir)
    if found is None:
        return
    reporter, weights = found
    if writer:
        repair(output_dir, reporter.get_epoch(), weights)
        sort_out(output_dir, reporter, options)
    if stops_early(reporter, options):
        options.max_epoch = reporter.get_epoch()


def writes(distributed_option) -> bool:
    """Whether this process is the one that writes files."""
    return not distributed_option.distributed or distributed_option.dist_rank == 0


class KillSafeTrainer(Trainer):
    """ESPnet's trainer, with checkpoints that survive a kill and run nothing, with
    `mixed_precision`, and with an end where it diverges."""

    @classmethod
    def run(cls, model, trainer_options, **kwargs) -> None:
        trainer.autocast_args = mixed_precision()
        with atomic_torch_save(), safe_torch_load():
            if trainer_options.resume:
                tidy_up(trainer_options, writes(kwargs["distributed_option"]))
                if kwargs["distributed_option"].distributed:
                    torch.distributed.barrier()
            super().run(model=model, trainer_options=trainer_options, **kwargs)

    @staticmethod
    def resume(checkpoint, model, optimizers, **kwargs) -> None:
        """As ESPnet's, but a checkpoint of another training, or of one that diverged, is an error.

        Raises:
            ValueError: it is damaged, does not fit, or has NaN or infinite values.
        """
        try:
            with safe_torch_load():
                Trainer.resume(checkpoint, model, optimizers=optimizers, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, LookupError, TypeError, AttributeError, ValueError) as error:
            reason = first_line(error).removeprefix(f"{checkpoint}: ")
            text = f"cannot be resumed: {reason}; train with the options that it was made with"
            raise ValueError(f"{checkpoint}: {text}, or elsewhere") from None
        check_finite(model.state_dict(), str(checkpoint))
        for optimizer in optimizers:
            for number, state in enumerate(optimizer.state.values()):
                named = {f"{k} of parameter {number}": v for k, v in state.items()}
                tensors = {k: v for k, v in named.items() if isinstance(v, torch.Tensor)}
                check_finite(tensors, f"{checkpoint}: optimizer")

    @classmethod
    def train_one_epoch(cls, model, options, **kwargs) -> bool:
        with finite_losses(model, PATIENCE, options.output_dir):
            invalid = super().train_one_epoch(model=model, options=options, **kwargs)
        if invalid:
            raise ValueError(
                f"{options.output_dir}: an epoch made no update: its gradients are NaN or "
                "infinite, or accum_grad is more than its batches"
            )
        trained = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
        check_finite(trained, str(options.output_dir))
        return invalid

    @classmethod
    @torch.no_grad()
    def validate_one_epoch(cls, model, options, **kwargs) -> None:
        with finite_losses(model, 1, f"{options.output_dir}: validation"):
            super().validate_one_epoch(model=model, options=options, **kwargs)


def survive_kills() -> None:
    """Have the trainings of ESPnet's own tasks survive a kill, too. Calling it again changes
    nothing."""
    run = Trainer.run.__func__
    if run.__name__ == "run_safely":
        return

    def run_safely(cls, model, trainer_options, **kwargs) -> None:
        if issubclass(cls, KillSafeTrainer):  # which comes back here by its `super`
            run(cls, model=model, trainer_options=trainer_options, **kwargs)
            return
        safe = type(cls.__name__, (KillSafeTrainer, cls), {})
        safe.run(model=model, trainer_options=trainer_options, **kwargs)

    Trainer.run = classmethod(run_safely)


class PruneTrainer(KillSafeTrainer):
    """Adds to every epoch: `updates.jsonl` (a row for every forward pass in training, means of
    several where an epoch has more than `ROWS`), `valid.jsonl` (a row for every epoch), the kept
    sizes in log and TensorBoard, weights at the targets on the way (`TARGET`), and the plots
    `images/course.png` (losses, sparsities, multipliers over updates) and `images/kept.png`."""

    @classmethod
    def train_one_epoch(cls, model, options, distributed_option, **kwargs) -> bool:
        module = getattr(model, "module", model)
        start = int(module.updates)
        module.history.clear()
        targets = contextlib.nullcontext()
        if writes(distributed_option) and module.pruning is not None and module.pruning.targets:
            targets = saved_targets(module, kwargs["optimizers"][0], Path(options.output_dir))
        with targets:
            invalid = super().train_one_epoch(
                model=model, options=options, distributed_option=distributed_option, **kwargs
            )
        if writes(distributed_option):
            report(module, Path(options.output_dir), start, kwargs["summary_writer"])
        return invalid

    @classmethod
    @torch.no_grad()
    def validate_one_epoch(cls, model, options, distributed_option, **kwargs) -> None:
        module = getattr(model, "module", model)
        module.validation.clear()
        super().validate_one_epoch(
            model=model, options=options, distributed_option=distributed_option, **kwargs
        )
        if not module.validation:
            return
        device = "cuda" if options.ngpu else "cpu"
        mean = held_out(module.validation, distributed_option.distributed, device)
        if writes(distributed_option):
            extend(Path(options.output_dir) / VALIDATION, [mean], mean["update"])


def held_out(rows: list[dict[str, float]], distributed: bool, device: str) -> dict[str, float]:
    """The mean over the frames of all batches, also those of other processes.

    Args:
        rows: of `DistillModel.validation`.
        device: that processes exchange on.
    """
    names = [name for name in rows[0] if name not in ("update", "weight")]
    weighted = [[row["weight"], *(row["weight"] * row[name] for name in names)] for row in rows]
    sums = torch.tensor(weighted, dtype=torch.float64).sum(0)
    if distributed:
        sums = sums.to(device)
        torch.distributed.all_reduce(sums)
    weight, *values = sums.tolist()
    means = {name: value / weight for name, value in zip(names, values, strict=True)}
    return {"update": rows[0]["update"], **means}


@contextlib.contextmanager
def saved_targets(model: DistillModel, optimizer: torch.optim.Optimizer, output_dir: Path):
    """While active, write `TARGET` after the update that brings the expected sparsity to each of
    `pruning_conf.targets`. What a killed run left of updates to come is removed first."""
    missing = []
    for target in model.pruning.targets:
        path = output_dir / TARGET.format(target)
        if path.is_file():
            made = load_pickled(path, mmap=True)["updates"]
            if made <= model.updates:
                continue
            path.unlink()
        missing.append(target)

    def check(*_):
        if not missing:
            return
        with torch.no_grad():
            reached = float(model.student.expected_sparsity())
        for target in [target for target in missing if reached >= target]:
            missing.remove(target)
            torch.save(model.state_dict(), output_dir / TARGET.format(target))
            logging.info(f"target {target:g} of {model.pruning.cost} reached: {reached:.4f}")

    handle = optimizer.register_step_post_hook(check)  # after the one that counts the updates
    try:
        yield
    finally:
        handle.remove()


def extend(path: Path, rows: list[dict[str, float]], start: int) -> list[dict[str, float]]:
    """Add rows to a history; what it has from update `start` on is left over from a killed run.

    Returns: all rows.
    """
    rows = [row for row in read_history(path) if row["update"] < start] + rows
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def thinned(rows: list[dict[str, float]], most: int = ROWS) -> list[dict[str, float]]:
    """Means of consecutive rows, so many that `most` are left; `update` is the first row's."""
    size = max(1, -(-len(rows) // most))
    groups = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [
        {name: sum(row[name] for row in group) / len(group) for name in group[0]}
        | {"update": group[0]["update"]}
        for group in groups
    ]


def report(model: DistillModel, output_dir: Path, start: int, summary_writer) -> None:
    """Write down what the last epoch did, which began at update `start`."""
    rows = extend(output_dir / HISTORY, thinned(model.history), start)
    model.history.clear()
    images = output_dir / "images"
    plot_course(rows, images / "course.png")
    if model.pruning is None:
        return
    gated = model.student
    masks = gated.plan.canonical(gated.hard_masks())
    sizes = {name: int(mask.sum()) for name, mask in masks.items()}
    for name, size in sizes.items():
        logging.info(f"kept: {name}: {size} of {gated.plan.size(name)}")
        if summary_writer is not None:
            summary_writer.add_scalar(f"kept/{name}", size, int(model.updates))
    plot_kept(gated.plan, masks, images / "kept.png")
