"""Export a dense or pruned encoder to ONNX, and compare ONNX Runtime's output with torch's.

The graph takes `speech` (B, T), 16 kHz waveforms of one length, for any B and T that the model
takes, and gives `last_hidden_state` (B, T', D), or `hidden_0` to `hidden_L` with --all_layers.
Whisper's window is as long as the speech.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from espnet_prune.cli import errors as cli
from espnet_prune.structured import SpeechEncoder, load_encoder
from espnet_prune.structured.cost.measure import noise

#: largest difference to torch, as a share of the largest number
TOLERANCE = 1e-3


class _Graph(nn.Module):
    def __init__(self, encoder: SpeechEncoder, all_layers: bool):
        super().__init__()
        self.encoder = encoder
        self.all_layers = all_layers

    def forward(self, speech: Tensor) -> tuple[Tensor, ...]:
        output = self.encoder(speech, full_window=False)
        return tuple(output.hidden_states) if self.all_layers else (output.last_hidden_state,)


@torch.no_grad()
def export(encoder: SpeechEncoder, path: Path, all_layers: bool = False) -> float:
    """Write an ONNX file, after its output has been compared with torch's.

    Returns: the largest difference on speech of other sizes than the graph was traced with, as a
        share of the largest number.
    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        ValueError: the outputs differ.
    """
    import onnxruntime
    import onnxscript  # noqa: F401  the exporter needs it and says so less clearly

    graph = _Graph(encoder.eval().cpu().float(), all_layers)
    names = [f"hidden_{n}" for n in range(encoder.num_layers + 1)]
    least = encoder.family_of.minimum_samples(encoder.config.base) / encoder.sampling_rate
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    speech, _ = noise(max(1.0, 2 * least), 2, "cpu", torch.float32)
    dynamic = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        graph,
        (speech,),
        temporary,
        dynamo=True,
        external_data=False,
        input_names=["speech"],
        output_names=names if all_layers else ["last_hidden_state"],
        dynamic_shapes=({0: dynamic, 1: dynamic},),
        verbose=False,
    )
    other, _ = noise(max(0.7, 1.5 * least), 3, "cpu", torch.float32)
    session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
    found = session.run(None, {"speech": other.numpy()})
    difference = 0.0
    for theirs, ours in zip(found, graph(other), strict=True):
        scale = float(ours.abs().max())
        difference = max(difference, float(np.abs(theirs - ours.numpy()).max()) / scale)
    if not difference <= TOLERANCE:
        temporary.unlink()
        raise ValueError(
            f"{path}: ONNX Runtime's output differs from torch's by {difference:.1e} of the "
            "largest number; not written"
        )
    os.replace(temporary, path)
    return difference


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", required=True, help="directory or hub name of an encoder")
    parser.add_argument("--output", type=Path, required=True, help="file to write, *.onnx")
    parser.add_argument(
        "--all_layers",
        choices=("true", "false"),
        default="false",
        help="all hidden states instead of the last",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    encoder = load_encoder(args.model)
    try:
        difference = export(encoder, args.output, args.all_layers == "true")
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed: pip install espnet_prune[onnx]") from None
    size = args.output.stat().st_size / 1e6
    print(f"{args.output}: {size:.1f} MB, differs from torch by {difference:.1e} of the largest")


def main(cmd=None) -> None:
    cli.run(run, get_parser(), cmd)


if __name__ == "__main__":
    main()
