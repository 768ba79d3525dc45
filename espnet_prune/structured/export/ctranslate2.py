"""A whole Whisper with a pruned encoder in CTranslate2's format, for it and faster-whisper.

The engine reads most sizes off the weights. It takes the number of heads from the model, and wants
queries, keys and values of one size: the layout `stock` (`espnet_prune.structured.layout`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import torch

from espnet_prune.extras import load_extra
from espnet_prune.structured.cost.measure import noise
from espnet_prune.structured.encoder import SpeechEncoder
from espnet_prune.structured.encoder_directory import written_beside
from espnet_prune.structured.whisper_decoder import whole_whisper

#: how a model's weights may be stored
QUANTIZATIONS = ("float32", "float16", "int8", "int8_float32", "int8_float16", "int16")
#: largest difference to torch, as a share of the largest number
TOLERANCE = 1e-3
#: what is taken along from the directory of the whole Whisper, where it is there
FILES = ("tokenizer.json", "preprocessor_config.json")


def check_stock(encoder: SpeechEncoder) -> None:
    """
    Raises:
        ValueError: no Whisper, or sizes that CTranslate2 does not run; the message names them.
    """
    if encoder.family != "whisper":
        raise ValueError(f"{encoder.family}: CTranslate2 is written for Whisper alone")
    remedy = "prune with the layout stock (--layout stock)"
    for number, layer in enumerate(encoder.family_of.layers(encoder.backbone)):
        attention: Any = layer.self_attn
        sizes = {*attention.qk_sizes, *attention.vo_sizes}
        if len(attention.heads) < attention.base_heads or not attention.present:
            raise ValueError(f"layer {number} has lost heads, which CTranslate2 needs: {remedy}")
        if len(sizes) != 1 or 0 in sizes:
            found = f"{min(sizes)} to {max(sizes)} dimensions"
            raise ValueError(f"layer {number} has heads of {found}, not of one size: {remedy}")
        if not isinstance(layer.fc1, torch.nn.Linear) or not layer.fc1.out_features:
            raise ValueError(f"layer {number} has lost its feed-forward part: {remedy}")


@torch.no_grad()
def export_ctranslate2(
    encoder: SpeechEncoder,
    whisper: str | Path,
    output_dir: str | Path,
    quantization: str = "float32",
) -> float:
    """Write a directory that CTranslate2 and faster-whisper load, decoder and tokens included.

    The engine's encoder is compared with torch's first, in float32.

    Args:
        encoder: dense, or pruned with the layout stock.
        whisper: directory of the whole Whisper that the encoder is of.
        output_dir: directory to write, which does not exist.
        quantization: of the weights, one of `QUANTIZATIONS`.
    Returns: the largest difference of the engine's last hidden state from torch's, as a share of
        the largest number.
    Raises:
        MissingExtraError: ctranslate2 is not installed.
        ValueError: an encoder that the engine does not run, another Whisper than that of the
            encoder, a directory that exists, or outputs that differ.
    """
    if quantization not in QUANTIZATIONS:
        choices = ", ".join(QUANTIZATIONS)
        raise ValueError(f"quantization is {quantization!r}, choose from {choices}")
    check_stock(encoder)
    engine = load_extra("ctranslate2", "ctranslate2")
    encoder = encoder.eval().cpu().float()
    with written_beside(output_dir) as folder:
        model = whole_whisper(whisper)
        there, own = (
            conv.weight.shape[0] for conv in (model.model.encoder.conv2, encoder.backbone.conv2)
        )
        if there != own:
            text = f"its encoder has {there} dimensions, and the one to export {own}"
            raise ValueError(f"{whisper}: {text}: give the Whisper that it was pruned from")
        model.model.encoder = encoder.backbone
        _convert(model, whisper, folder, "float32")
        difference = _difference(encoder, engine.models.Whisper(str(folder)), engine.StorageView)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"{output_dir}: CTranslate2's output differs from torch's by {difference:.1e} of "
                "the largest number; the directory is not written"
            )
        if quantization != "float32":
            _convert(model, whisper, folder, quantization)
    return difference


def _convert(model: Any, whisper: str | Path, target: Path, quantization: str) -> None:
    def load_model(self: Any, kind: Any, name: str, **kwargs: Any) -> Any:
        return model

    base = load_extra("ctranslate2.converters", "ctranslate2").TransformersConverter
    converter = type("Converter", (base,), {"load_model": load_model})
    files = [name for name in FILES if (Path(whisper) / name).is_file()]
    converter(str(whisper), copy_files=files).convert(
        str(target), quantization=quantization, force=True
    )


def _difference(encoder: SpeechEncoder, model: Any, view: Any) -> float:
    least = encoder.family_of.maximum_samples(encoder.config.base) or 0
    speech, _ = noise(least / encoder.sampling_rate, 2, "cpu", torch.float32)
    inputs = encoder.prepare(speech)
    ours = encoder(inputs).last_hidden_state
    rows = [model.encode(view.from_array(row[None].numpy())) for row in inputs.features]
    theirs = torch.cat([torch.from_numpy(numpy.asarray(row)) for row in rows])
    return float((theirs - ours).abs().max() / ours.abs().max())
