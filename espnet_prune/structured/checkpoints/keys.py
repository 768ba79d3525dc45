"""Names of tensors: from fairseq's and torchaudio's layouts to that of `transformers`.

A rule is a pattern for the whole name and what it becomes; None drops a tensor that belongs to
pre-training or to a head on top. `transformers`' names are those of the model without heads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

import yaml
from torch import Tensor

Rules = tuple[tuple[str, str | None], ...]

#: parts of the patterns in keys.yaml
_PARTS = {
    "<conv>": r"feature_extractor\.conv_layers\.(\d+)",
    "<layer>": r"encoder\.layers\.(\d+)",
}


def _read_rules() -> dict[str, Rules]:
    text = files(__package__).joinpath("keys.yaml").read_text(encoding="utf-8")
    for part, pattern in _PARTS.items():
        text = text.replace(part, pattern)
    return {layout: tuple(rules.items()) for layout, rules in yaml.safe_load(text).items()}


_RULES = _read_rules()
FAIRSEQ, TORCHAUDIO = _RULES["fairseq"], _RULES["torchaudio"]


def rename(state: Mapping[str, Tensor], rules: Rules, source: str) -> dict[str, Tensor]:
    """Tensors under `transformers`' names, Q, K and V apart.

    Args:
        source: names the file in errors.
    Raises:
        ValueError: no rule knows a tensor.
    """
    compiled = [(re.compile(pattern), new) for pattern, new in rules]
    out: dict[str, Tensor] = {}
    unknown = []
    for name, value in state.items():
        for pattern, new in compiled:
            found = pattern.fullmatch(name)
            if found:
                if new is not None:
                    out[found.expand(new)] = value
                break
        else:
            unknown.append(name)
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise ValueError(
            f"{source}: unknown tensors {', '.join(unknown[:3])}{more}: not the architecture of "
            "wav2vec 2.0, HuBERT or WavLM"
        )
    for name in [name for name in out if ".attention.qkv." in name]:
        parts = out.pop(name).chunk(3)
        for letter, part in zip("qkv", parts, strict=True):
            out[name.replace(".qkv.", f".{letter}_proj.")] = part
    return out


def strip(state: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Names without the first of `prefixes` that occurs; what does not start with it is dropped."""
    for prefix in prefixes:
        if any(name.startswith(prefix) for name in state):
            start = len(prefix)
            return {k[start:]: v for k, v in state.items() if k.startswith(prefix)}
    return dict(state)
