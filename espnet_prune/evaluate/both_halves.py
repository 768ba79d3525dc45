"""What both halves cost together: the audio encoder of a speech LLM, dense and pruned, before its
language model with all audio tokens and with pruned ones.

Encoders have true sizes and random weights, which take as long as real ones. As of the language
model, some of the layers are enough: the time of the others is that of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from espnet_prune.evaluate.measuring import clock
from espnet_prune.evaluate.report import table
from espnet_prune.structured import SpeechEncoder, SpeechEncoderConfig
from espnet_prune.structured.baselines import prune_at_random

#: seconds that the encoder hears at once
CHUNK_SECONDS = 30
#: the audio encoder of each speech LLM that has one of a family here, as published
SIZES = {
    "qwen2_audio": (
        "qwen2_audio_encoder",
        {
            "d_model": 1280,
            "encoder_layers": 32,
            "encoder_attention_heads": 20,
            "encoder_ffn_dim": 5120,
            "num_mel_bins": 128,
            "max_source_positions": 1500,
        },
    )
}
#: heads of a layer have the same sizes, which is fastest
LAYOUT = "equal"


@dataclass
class EncoderCost:
    """An audio encoder and what it costs.

    Attributes:
        pruned: share of the parameters that is gone; 0 of the dense one.
        parameters, flops: of all layers; the latter for a chunk of 30 s.
        seconds, processors: of all chunks, with the time of all layers; the latter are those of
            the processors, over all threads.
    """

    pruned: float
    parameters: float
    flops: float
    seconds: list[float] = field(default_factory=list)
    processors: list[float] = field(default_factory=list)


def encoder_config(name: str, layers: int | None = None) -> SpeechEncoderConfig:
    """Configuration of the audio encoder of a speech LLM, or of its first layers (ValueError: it
    has none of a known family)."""
    if name not in SIZES:
        known = ", ".join(SIZES)
        raise ValueError(f"--encoder_target: the encoder of {name} has no sizes here, only {known}")
    family, base = SIZES[name]
    return SpeechEncoderConfig(
        family, base | ({} if layers is None else {"encoder_layers": layers})
    )


def costs(config: SpeechEncoderConfig) -> np.ndarray:
    """Parameters and FLOPs (two a multiply-accumulate) of a dense encoder for a chunk of 30 s."""
    with torch.device("meta"):
        encoder = SpeechEncoder(config)
    return _costs(encoder)


def _costs(encoder: SpeechEncoder) -> np.ndarray:
    macs = CHUNK_SECONDS * float(encoder.plan(CHUNK_SECONDS).macs())  # they are those of a second
    return np.array([encoder.num_parameters(), 2 * macs])


def dense_and_pruned(
    name: str, layers: int | None, target: float
) -> list[tuple[EncoderCost, SpeechEncoder]]:
    """The dense encoder of a speech LLM and one with a share `target` of the parameters gone.

    The same share of each layer goes, at random; the convolutions in front stay. What is pruned of
    the first layers is as much as in the whole encoder would be of them.

    Args:
        layers: how many are built; all when absent.
    Returns: what each costs, and its layers that were built.
    Raises:
        ValueError: an unknown speech LLM, or a target that cannot be reached.
    """
    whole_config = encoder_config(name)
    number = whole_config.base["encoder_layers"]
    layers = number if layers is None else layers
    if not 1 <= layers <= number:
        raise ValueError(f"--layers is {layers}, but the audio encoder has {number}")
    if not 0.0 < target < 1.0:
        raise ValueError(f"--encoder_target is {target:g}, but has to be in (0, 1)")
    whole = costs(whole_config)
    layer = costs(encoder_config(name, 2)) - costs(encoder_config(name, 1))
    front = whole - number * layer
    some = encoder_config(name, layers)
    share = target * whole[0] / number * layers / (front + layers * layer)[0]
    torch.manual_seed(0)
    dense = SpeechEncoder(some).eval()
    small, _ = prune_at_random(dense, share, protected=("cnn",), layout=LAYOUT)
    left = front + (_costs(small) - front) * number / layers
    return [
        (EncoderCost(0.0, *map(float, whole)), dense),
        (EncoderCost(float(1.0 - left[0] / whole[0]), *map(float, left)), small.eval()),
    ]


@torch.inference_mode()
def measure(
    pairs: Sequence[tuple[EncoderCost, SpeechEncoder]],
    name: str,
    chunks: int,
    repeats: int,
    device: str,
    dtype: torch.dtype,
) -> None:
    """Time encoders of `dense_and_pruned` on some chunks of 30 s together, taking turns."""
    base = SIZES[name][1]
    for _, model in pairs:
        model.to(device, dtype)
    shape = chunks, base["num_mel_bins"], 2 * base["max_source_positions"]
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)

    def seconds(call: Callable[[], object]) -> np.ndarray:
        start = clock(device)
        call()
        return clock(device) - start

    for turn in range(repeats + 1):
        for cost, model in pairs:
            backbone = model.backbone

            def front(backbone=backbone) -> Tensor:
                return F.gelu(backbone.conv2(F.gelu(backbone.conv1(features))))

            once = seconds(front)
            some = seconds(lambda backbone=backbone: backbone(features))
            if turn:  # the first one warms up
                parts = base["encoder_layers"] / len(backbone.layers)
                wall, processors = (once + parts * np.maximum(0.0, some - once)).tolist()
                cost.seconds.append(wall)
                cost.processors.append(processors)


def halves(
    encoders: Sequence[EncoderCost], chunks: int, parameters: float, variants: Sequence[dict]
) -> list[dict]:
    """Numbers of each encoder before each variant of the language model.

    Args:
        chunks: of 30 s.
        parameters: of the language model.
        variants: `strategy`, `rate`, `audio_tokens`, `flops`; seconds to `prune` and `prefill`, and
            of the `processors` for both.
    """
    return [
        {
            "encoder_pruned": encoder.pruned,
            "strategy": variant["strategy"],
            "rate": variant["rate"],
            "audio_tokens": variant["audio_tokens"],
            "parameters": encoder.parameters + parameters,
            "encoder_flops": chunks * encoder.flops,
            "flops": chunks * encoder.flops + variant["flops"],
            "encode_seconds": float(np.median(encoder.seconds)),
            "prune_seconds": variant["prune"],
            "prefill_seconds": variant["prefill"],
            "first_token_seconds": float(np.median(encoder.seconds))
            + variant["prune"]
            + variant["prefill"],
            "processor_seconds": float(np.median(encoder.processors)) + variant["processors"],
        }
        for encoder in encoders
        for variant in variants
    ]


def halves_table(found: Sequence[dict], chunks: int) -> str:
    """A row for each, and what the columns mean."""
    first, rows = found[0], []
    for row in found:
        tokens = "all" if row["strategy"] == "none" else f"{row['strategy']} {row['rate']:g}"
        rows.append(
            {
                "encoder": f"{row['encoder_pruned']:.0%} pruned"
                if row["encoder_pruned"]
                else "dense",
                "audio tokens": f"{row['audio_tokens']} ({tokens})",
                "parameters (B)": f"{row['parameters'] / 1e9:.3f}",
                "TFLOPs": f"{row['flops'] / 1e12:.2f}",
                "of the encoder": f"{row['encoder_flops'] / 1e12:.2f}",
                "FLOPs": f"{first['flops'] / row['flops']:.2f}x",
                **{
                    f"{name} s": f"{row[f'{name}_seconds']:.2f}"
                    for name in ("encode", "prune", "prefill")
                },
                "first token s": f"{row['first_token_seconds']:.2f}",
                "speed": f"{first['first_token_seconds'] / row['first_token_seconds']:.2f}x",
                "of processors s": f"{row['processor_seconds']:.2f}",
                "less": f"{first['processor_seconds'] / row['processor_seconds']:.2f}x",
            }
        )
    note = (
        f"Times are of all layers, whatever number was timed; {chunks} chunks of {CHUNK_SECONDS} s "
        "go through the encoder together. Parameters are those of encoder and language model, "
        "without the projector between them. Multiples are of the first row. Seconds of the "
        "processors, over all threads, are what a busy machine would take if it had nothing else."
    )
    return table([list(rows[0]), *(list(row.values()) for row in rows)]) + f"\n{note}"
