"""Directories for `transformers`: in the layout of its own class where that has the sizes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import transformers

from espnet_prune.files.writing import write_text
from espnet_prune.structured.cost.measure import noise
from espnet_prune.structured.encoder import SpeechEncoder, load_encoder
from espnet_prune.structured.encoder_directory import (
    CARD,
    size_line,
    sizes,
    write_encoder,
    written_beside,
)
from espnet_prune.structured.heads import Head, kind_of, load_head
from espnet_prune.structured.model_card import model_card

#: largest difference to the encoder, as a share of the largest number
TOLERANCE = 1e-4
#: kind of head -> task of `transformers.pipeline`
TASKS = {
    "ForCTC": "automatic-speech-recognition",
    "ForSequenceClassification": "audio-classification",
}


def export_transformers(name: str, output_dir: str | Path) -> str:
    """Write a dense or pruned model, with its head if it has one, and a model card.

    What `transformers`' own class has sizes for (the same number of feed-forward dimensions in all
    layers, any numbers of CNN channels, everything else whole) is written in its layout and
    compared with the encoder before; all else in this package's, for the classes of
    `structured.heads`.

    Args:
        name: directory or hub name.
        output_dir: must not exist.
    Returns: name of the class that loads it.
    Raises:
        FileNotFoundError, ValueError: as `load_encoder`; there is something at `output_dir`.
    """
    output_dir = Path(output_dir)
    if os.path.lexists(output_dir):
        raise ValueError(f"{output_dir}: exists already: give a directory that does not")
    encoder, head = load_encoder(name), load_head(name)
    model = stock_model(encoder, head)
    if model is None:
        write_encoder(encoder, output_dir, head=head)
        kind = kind_of(head.architecture) if head else None
        loads = f"SpeechEncoder{kind or ''}"
        write_text(output_dir / CARD, card(encoder, head, loads, own=True))
        return loads
    loads = type(model).__name__
    with written_beside(output_dir) as folder:
        model.save_pretrained(folder)
        for file, text in (head.files if head else {}).items():
            write_text(folder / file, text)
        write_text(folder / CARD, card(encoder, head, loads, own=False))
    return loads


@torch.no_grad()
def stock_model(encoder: SpeechEncoder, head: Head | None) -> Any | None:
    """The same in `transformers`' own class, None where that has no such sizes.

    Raises:
        ValueError: it does not compute the same.
    """
    family = encoder.family_of
    changed = family.stock_config(encoder.config.base, encoder.plan())
    if changed is None:
        return None
    state = family.stock_state(encoder.backbone.state_dict(), changed)
    if head is None:
        model = family.model_class(family.config_class(**changed))
    else:
        kind = getattr(transformers, head.architecture)
        sizes = {key: changed[key] for key in family.stock_sizes.values()}
        model = kind(kind.config_class(**{**head.config, **sizes}))
        state = {f"{family.prefixes[0]}{key}": value for key, value in state.items()}
        state |= head.state
    own = model.state_dict()  # of what is there for training only, whatever was drawn stays
    spare = {key: value for key, value in own.items() if key.endswith("masked_spec_embed")}
    model.load_state_dict({**spare, **state})
    model.eval()
    speech, _ = noise(1.0, 2, "cpu", torch.float32)
    wanted = encoder(speech).last_hidden_state
    whole = model if head is None else getattr(model, family.prefixes[0].rstrip("."))
    found = whole(encoder.prepare(speech).features).last_hidden_state
    difference = float((found - wanted).abs().max() / wanted.abs().max())
    if not difference <= TOLERANCE:
        raise ValueError(f"transformers' {type(model).__name__} differs by {difference:.1e}")
    return model


def card(encoder: SpeechEncoder, head: Head | None, loads: str, own: bool) -> str:
    """A model card in Markdown: sizes, and how the model is loaded.

    Args:
        loads: class that loads it.
        own: it is one of this package's.
    """
    kind = kind_of(head.architecture) if head else None
    task = TASKS.get(kind or "", "")
    after = f" with the head of {head.architecture}" if head else ""
    if own:
        text = (
            f"Its layers have sizes of their own, which `transformers`' own class does not have. "
            f"`{loads}` of espnet_prune (`pip install espnet_prune`) loads it, which its import "
            "registers with the Auto classes."
        )
    else:
        text = f"`transformers`' own `{loads}` loads it; nothing else is needed."
    lines = ["import espnet_prune.structured"] if own else []
    if task:
        lines += ["from transformers import pipeline", ""]
        lines += [f'model = pipeline("{task}", model="…")  # this directory', 'model("a.wav")']
    else:
        lines += ["from transformers import AutoModel", ""]
        lines += ['model = AutoModel.from_pretrained("…")  # this directory']
    return model_card(
        f"Pruned {encoder.family} encoder{after}",
        text,
        "\n".join(lines),
        [f"{size_line(sizes(encoder))}."],
        library_name="transformers",
        pipeline_tag=task,
    )
