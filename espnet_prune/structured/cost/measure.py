"""What an encoder costs when it runs: counted MACs, time, memory."""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from espnet_prune.structured.encoder import SpeechEncoder

#: turns before those that count
WARM_UP = 2


def noise(
    seconds: float, batch: int, device: torch.device | str, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(B, T) quiet noise at 16 kHz, and its (B,) lengths."""
    samples = int(seconds * SpeechEncoder.sampling_rate)
    speech = torch.randn(batch, samples, generator=torch.Generator().manual_seed(0)) * 0.1
    return speech.to(device, dtype), torch.full((batch,), samples)


@torch.inference_mode()
def counted_macs(encoder: SpeechEncoder, seconds: float) -> dict[str, float]:
    """Multiply-accumulates of one utterance by torch's own counter, whatever was declared.

    Attention runs unfused meanwhile, since the counter does not see into the fused kernel of CPUs.
    Half of what torch counts as floating-point operations; element-wise work is not counted.

    Returns: module's name, as in `named_modules` -> MACs, each with those of its children; ""
        for the whole model.
    """
    speech, lengths = noise(seconds, 1, encoder.device, encoder.dtype)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(speech, lengths, full_window=False)
    top = f"{type(encoder).__name__}."
    counts = {name: sum(ops.values()) / 2 for name, ops in counter.get_flop_counts().items()}
    inner = {n.removeprefix(top): count for n, count in counts.items() if n.startswith(top)}
    return {"": counts["Global"], **inner}


@dataclass(frozen=True)
class Timing:
    """Seconds of single forward passes.

    Attributes:
        times: (repeats,) seconds.
        audio: seconds of audio in a pass, over the whole batch.
    """

    times: np.ndarray
    audio: float

    def percentile(self, q: float) -> float:
        """Seconds."""
        return float(np.percentile(self.times, q))

    @property
    def real_time_factor(self) -> float:
        """Median time over length of the audio."""
        return self.percentile(50) / self.audio


@torch.inference_mode()
def time_in_turns(
    models: Sequence[Callable[[Tensor, Tensor], object]],
    seconds: float,
    repeats: int,
    batch: int = 1,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[Timing]:
    """Time models side by side: they take turns, so that what disturbs the machine is shared.

    Args:
        models: called with (B, T) quiet noise and its (B,) lengths.
    """
    speech, lengths = noise(seconds, batch, device, dtype)
    times: list[list[float]] = [[] for _ in models]
    for turn in range(repeats + WARM_UP):
        for model, measured in zip(models, times, strict=True):
            _synchronize(speech)
            start = time.perf_counter()
            model(speech, lengths)
            _synchronize(speech)
            if turn >= WARM_UP:
                measured.append(time.perf_counter() - start)
    return [Timing(np.array(measured), seconds * batch) for measured in times]


def time_encoders(
    encoders: Sequence[SpeechEncoder], seconds: float, repeats: int, batch: int = 1
) -> list[Timing]:
    """`time_in_turns` of encoders that are on one device and of one type."""
    calls = [partial(encoder.__call__, full_window=False) for encoder in encoders]
    first = encoders[0]
    return time_in_turns(calls, seconds, repeats, batch, first.device, first.dtype)


@torch.inference_mode()
def peak_memory(encoder: SpeechEncoder, seconds: float, batch: int = 1) -> int | None:
    """`peak_memory_of` a forward pass (so weights are not counted)."""
    speech, lengths = noise(seconds, batch, encoder.device, encoder.dtype)
    return peak_memory_of(lambda: encoder(speech, lengths, full_window=False), encoder.device)


def peak_memory_of(run: Callable[[], object], device: torch.device | str) -> int | None:
    """Bytes at the peak of a call beyond what was there before it.

    On a GPU of the allocator; on Linux of the process, where it is a lower bound when memory that
    the process holds free already is used again. None where neither can be told.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)  # what is held free goes back to the system, so that its use again is seen
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
        before = _status("VmRSS")
        run()
        return max(0, _status("VmHWM") - before)
    except OSError:
        return None


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s*(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status has no {field}")
    return int(found[1]) * 1024


def _synchronize(tensor: Tensor) -> None:
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)
