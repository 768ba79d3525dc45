"""ONNX files of dense and pruned encoders, compared with torch before they are written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from espnet_prune.extras import load_extra
from espnet_prune.files.writing import write_file
from espnet_prune.structured.cost.measure import noise
from espnet_prune.structured.encoder import SpeechEncoder

#: largest difference to torch, as a share of the largest number
TOLERANCE = 1e-3
#: bytes of weights from which on they are a file of their own: protobuf ends at 2 GiB
LARGE = 2_000_000_000


class _Graph(nn.Module):
    def __init__(self, encoder: SpeechEncoder, all_layers: bool):
        super().__init__()
        self.encoder = encoder
        self.all_layers = all_layers

    def forward(self, speech: Tensor) -> tuple[Tensor, ...]:
        output = self.encoder(speech, full_window=False)
        return tuple(output.hidden_states) if self.all_layers else (output.last_hidden_state,)


@torch.no_grad()
def export_onnx(encoder: SpeechEncoder, path: str | Path, all_layers: bool = False) -> float:
    """Write an ONNX file, after ONNX Runtime's output has been compared with torch's.

    The graph takes `speech` (B, T), 16 kHz waveforms of one length, for any B and T that the model
    takes. It gives `last_hidden_state` (B, T', D), or `hidden_0` to `hidden_L` with `all_layers`.
    Whisper's window is as long as the speech. Weights of 2 GB and more are written beside it, as
    `<name>.data`, without which it does not load.

    Returns: the largest difference on speech of other sizes than the graph was traced with, as a
        share of the largest number.
    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is not installed.
        ValueError: the outputs differ.
    """
    # The exporter needs the first two, and says so less clearly
    onnxruntime = [load_extra(name, "onnx") for name in ("onnx", "onnxscript", "onnxruntime")][-1]
    graph = _Graph(encoder.eval().cpu().float(), all_layers).eval()
    names = [f"hidden_{n}" for n in range(encoder.num_layers + 1)]
    least = encoder.family_of.minimum_samples(encoder.config.base) / encoder.sampling_rate
    speech, _ = noise(max(1.0, 2 * least), 2, "cpu", torch.float32)
    other, _ = noise(max(0.7, 1.5 * least), 3, "cpu", torch.float32)
    dynamic = torch.export.Dim.DYNAMIC
    difference = 0.0
    path = Path(path)
    data = path.with_name(f"{path.name}.data")

    def write(file: Path, weights_beside: bool = False) -> None:
        nonlocal difference
        torch.onnx.export(
            graph,
            (speech,),
            file,
            dynamo=True,
            external_data=weights_beside,
            input_names=["speech"],
            output_names=names if all_layers else ["last_hidden_state"],
            dynamic_shapes=({0: dynamic, 1: dynamic},),
            verbose=False,
        )
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        found = session.run(None, {"speech": other.numpy()})
        for theirs, ours in zip(found, graph(other), strict=True):
            error = float((torch.from_numpy(theirs) - ours).abs().max() / ours.abs().max())
            difference = difference if error <= difference else error  # also where it is NaN
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{path}: ONNX Runtime's output differs from torch's by {difference:.1e} of the "
                "largest number; the file is not written"
            )

    if sum(p.numel() * p.element_size() for p in graph.parameters()) < LARGE:
        write_file(path, write)
        data.unlink(missing_ok=True)  # of a larger model that was here
        return difference
    path.parent.mkdir(parents=True, exist_ok=True)
    # The graph names the file of its weights, so both have their names from the start
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        made = Path(folder) / path.name
        write(made, weights_beside=True)
        path.unlink(missing_ok=True)  # an old graph must not find new weights
        write_file(data, lambda file: os.replace(f"{made}.data", file))
        write_file(path, lambda file: os.replace(made, file))
    return difference
