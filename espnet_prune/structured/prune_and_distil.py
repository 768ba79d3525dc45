"""Prune a speech encoder in a plain torch loop, by one of two methods.

`one_shot` removes units and makes up for them in closed form, see `one_shot`. `l0` learns gates:

    1. Gates and weights are learned together. The loss is the distance of all hidden states from
       those of the dense encoder, plus a Lagrangian that brings the expected sparsity to the target
       (L0 regularisation with a straight-through estimator).
    2. What the gates drop is physically removed; their threshold is where the exact sparsity is
       nearest to the target.
    3. The slimmed encoder is distilled from the dense one, without gates; with `one_shot`, too, if
       updates are asked for.

The task `ssl_prune` of ESPnet does the same with ESPnet's trainer, for large data and several GPUs.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from espnet_prune.structured.distill import DistillModel, PruningConf
from espnet_prune.structured.encoder import SpeechEncoder
from espnet_prune.structured.heads import Head
from espnet_prune.structured.layout import check_layout, plan_for
from espnet_prune.structured.one_shot import prune_one_shot
from espnet_prune.structured.one_shot.statistics import head_probe
from espnet_prune.structured.slim import slim
from espnet_prune.structured.tensor_files import check_finite

#: of the optimiser: learning rate with gates and without, weight decay, largest norm of a gradient
GATES_LR, DISTILL_LR, WEIGHT_DECAY, GRAD_CLIP = 3.0e-4, 5.0e-4, 0.01, 5.0
#: learning rate of the distillation of weights that are fitted already
FITTED_LR = 1.0e-4
#: seconds of audio that one_shot looks at, at most
CALIBRATION = 600.0
#: ways to decide what goes, and updates after it unless asked otherwise
METHODS = {"one_shot": 0, "l0": 450}
#: share of the updates with gates over which learning rates and target rise
WARMUP, RAMP = 20 / 150, 110 / 150


def prune_encoder(
    encoder: SpeechEncoder,
    waveforms: Sequence[Tensor],
    target: float = 0.5,
    cost: str = "parameters",
    updates: int = 150,
    distill_updates: int | None = None,
    seed: int = 0,
    method: str = "one_shot",
    layout: str = "free",
    head: Head | None = None,
) -> tuple[SpeechEncoder, dict[str, Any]]:
    """A smaller encoder whose hidden states are close to those of `encoder`.

    Args:
        encoder: dense or already pruned, on the device to compute on; it is not changed.
        waveforms: (T,) at 16 kHz each. One is a batch; all are seen once before one comes again.
        target: share of the cost ("parameters" or "macs") to remove, in [0, 1).
        updates: optimiser updates with gates, of the method l0.
        distill_updates: optimiser updates after slimming; 450 for l0 and none for one_shot when
            absent.
        seed: of the gates' noise and of the order of the waveforms. The same seed gives the same
            encoder on the same machine; torch's own random state is left alone.
        method: "one_shot" or "l0".
        layout: of attention, "free", "equal" or "stock", see `espnet_prune.structured.layout`.
        head: what follows the encoder: its predictions matter, too.
    Returns: the pruned encoder in eval mode, on the same device, and its sparsities.
    Raises:
        ValueError: no waveforms, one that the encoder cannot take, or an option out of its range.
    """
    if not waveforms:
        raise ValueError("there are no waveforms to prune on")
    distill_updates = check_options(encoder, target, cost, updates, distill_updates, method, layout)
    trainable = {name: p.requires_grad for name, p in encoder.named_parameters()}
    teacher = copy.deepcopy(encoder)
    batches = endless(waveforms, seed)
    predictor = None
    if head is not None and not head.config.get("use_weighted_layer_sum"):
        predictor = head.predictor()
    with seeded(encoder.device, seed):
        if method == "one_shot":
            audio = calibration(waveforms, encoder.sampling_rate)
            probe = None if predictor is None else head_probe(predictor, seed)
            small, summary = prune_one_shot(
                encoder, audio, target, cost, seed=seed, probe=probe, layout=layout
            )
        else:
            gates = gates_for(target, cost, updates, layout)
            student = copy.deepcopy(encoder)
            model = DistillModel(teacher, student, gates, seed=seed, head=predictor)
            small, summary = learn_gates(model, batches, updates)
        if distill_updates:
            model = DistillModel(teacher, small, seed=seed, head=predictor)
            distil(model, batches, distill_updates, method)
    check_finite(small.state_dict(), "the pruned encoder")
    for name, parameter in small.named_parameters():  # distillation freezes what it does not use
        parameter.requires_grad_(trainable[name])
    return small.eval(), {**summary, "distill_updates": distill_updates}


def check_options(
    encoder: SpeechEncoder,
    target: float,
    cost: str,
    updates: int,
    distill_updates: int | None,
    method: str,
    layout: str = "free",
) -> int:
    """Check arguments of `prune_encoder` before there is any audio; returns `distill_updates`.

    Raises:
        ValueError: one is out of its range, the target cannot be reached, or the encoder has
            weights that are NaN or infinite.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, choose from {', '.join(METHODS)}")
    if distill_updates is None:
        distill_updates = METHODS[method]
    if not (updates >= 1 and distill_updates >= 0):
        counts = f"{updates} updates with gates and {distill_updates} after slimming"
        raise ValueError(f"{counts}: at least 1 and 0 are needed")
    check_layout(layout)
    check_finite(encoder.state_dict(), "the encoder")
    plan_for(encoder, layout).check_target(target, cost)
    return distill_updates


def calibration(waveforms: Sequence[Tensor], fs: int) -> list[Tensor]:
    """The first `CALIBRATION` seconds of waveforms, one at least."""
    lengths = itertools.accumulate(len(waveform) / fs for waveform in waveforms)
    number = sum(length <= CALIBRATION for length in lengths)
    return list(waveforms[: max(number, 1)])


@contextlib.contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Within, torch's random state starts from `seed`; outside it is left alone."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def learn_gates(model: Any, batches: Iterator[Tensor], updates: int) -> tuple[Any, dict[str, Any]]:
    """Train a `DistillModel`, or one like it, with gates; returns what `slimmed` does."""
    warmup = _warmup(WARMUP * updates)
    _train(model.to(model.encoder.device), batches, updates, GATES_LR, warmup, "learn gates")
    return slimmed(model)


def distil(model: Any, batches: Iterator[Tensor], updates: int, method: str) -> None:
    """Train a slimmed model, as `learn_gates` does; `method` is how it came to be."""
    lr = DISTILL_LR if method == "l0" else FITTED_LR
    model.to(model.encoder.device)
    _train(model, batches, updates, lr, _three_stages(updates), "distil")


def gates_for(target: float, cost: str, updates: int, layout: str) -> PruningConf:
    """How gates are learned in so many updates."""
    # A gate has the same way to go, from open to closed, in however many updates
    pace = min(1.0, 150 / updates)
    return PruningConf(
        target,
        cost,
        ramp_updates=round(RAMP * updates),
        init=4.5,
        gate_lr=max(0.02, 0.2 * pace),
        multiplier_lr=max(0.02, 0.1 * pace),
        layout=layout,
    )


def slimmed(
    model: Any, target: float | None = None, calibrate: bool = True
) -> tuple[Any, dict[str, Any]]:
    """The student of a model with gates without what they drop, and the sparsities of that.

    Args:
        model: a `DistillModel`, or one with its `gated`, `pruning` and `updates`.
        target: the model's own when absent.
        calibrate: move the gates' threshold to where the exact sparsity is nearest to the target.
    """
    gated, pruning = model.gated, model.pruning
    assert pruning is not None
    target = pruning.target if target is None else target
    if calibrate:
        gated.plan.check_target(target, gated.cost)
    natural = gated.hard_masks()
    masks = gated.hard_masks(target) if calibrate else natural
    exact = gated.exact_sparsity(masks)
    summary = {
        "target": target,
        "cost": pruning.cost,
        "round_to": pruning.round_to,
        "layout": pruning.layout,
        "expected": gated.expected_sparsity().item(),
        "exact_at_threshold_zero": gated.exact_sparsity(natural),
        "exact": exact,
        "updates": int(model.updates),
    }
    if abs(exact - target) > 0.01:
        found = f"the exact sparsity is {exact:.2%}, the target {target:.2%}"
        logging.warning(f"warning: {found}: train longer, or protect fewer sites")
    return slim(gated.encoder, masks), summary


def endless(batches: Sequence[Tensor], seed: int) -> Iterator[Tensor]:
    """All of them in a random order, and again."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for number in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[number]


def _train(
    model: Any,
    batches: Iterator[Tensor],
    updates: int,
    lr: float,
    rates: Callable[[int], float],
    title: str,
) -> None:
    """Make `updates` of a model; `rates` is the factor of all learning rates at an update."""
    device = model.encoder.device
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=lr, weight_decay=WEIGHT_DECAY)
    scheduler = LambdaLR(optimizer, rates)
    model.train()
    with tqdm(total=updates, desc=title) as bar:
        for number in range(updates):
            wave = next(batches).to(device)
            loss, stats, _ = model(wave[None], torch.tensor([len(wave)], device=device))
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
            if not norm.isfinite():
                raise ValueError(f"{title}: the gradient of update {number + 1} is NaN or infinite")
            optimizer.step()
            scheduler.step()
            model.updates += 1
            shown = {"loss": f"{float(stats['distill']):.4f}"}
            if "sparsity_expected" in stats:
                shown["sparsity"] = f"{float(stats['sparsity_expected']):.3f}"
            bar.set_postfix(shown)
            bar.update()
    model.history.clear()


def _warmup(steps: float) -> Callable[[int], float]:
    """Linear up to `steps`, then with the inverse square root (ESPnet's warmuplr)."""
    steps = max(1.0, steps)
    return lambda update: min((update + 1) / steps, math.sqrt(steps / (update + 1)))


def _three_stages(updates: int) -> Callable[[int], float]:
    """Up linearly over 5% of the updates, constant over 15%, then down to 2% (ESPnet's
    tristagelr)."""
    rise, hold = 0.05 * updates, 0.2 * updates

    def rate(update: int) -> float:
        step = update + 1
        if step < rise:
            return 0.01 + 0.99 * step / rise
        return 0.02 ** (max(0.0, step - hold) / (updates - hold))

    return rate
