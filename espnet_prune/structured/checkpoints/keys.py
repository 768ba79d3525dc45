"""Names of tensors: from fairseq's and torchaudio's layouts to that of `transformers`.

A rule is a pattern for the whole name and what it becomes; None drops a tensor that belongs to
pre-training or to a head on top. `transformers`' names are those of the model without heads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

Rules = tuple[tuple[str, str | None], ...]

_CONV = r"feature_extractor\.conv_layers\.(\d+)"
_LAYER = r"encoder\.layers\.(\d+)"

#: wav2vec 2.0, HuBERT and WavLM as in fairseq and Microsoft's WavLM code.
FAIRSEQ: Rules = (
    (rf"{_CONV}\.0\.(weight|bias)", r"feature_extractor.conv_layers.\1.conv.\2"),
    (rf"{_CONV}\.2(?:\.1)?\.(weight|bias)", r"feature_extractor.conv_layers.\1.layer_norm.\2"),
    (r"layer_norm\.(weight|bias)", r"feature_projection.layer_norm.\1"),
    (r"post_extract_proj\.(weight|bias)", r"feature_projection.projection.\1"),
    (r"encoder\.pos_conv\.0\.(\w+)", r"encoder.pos_conv_embed.conv.\1"),
    (r"encoder\.pos_conv\.0\.(parametrizations\..+)", r"encoder.pos_conv_embed.conv.\1"),
    (r"encoder\.layer_norm\.(weight|bias)", r"encoder.layer_norm.\1"),
    (
        rf"{_LAYER}\.self_attn\.([qkv]_proj|out_proj)\.(weight|bias)",
        r"encoder.layers.\1.attention.\2.\3",
    ),
    (
        rf"{_LAYER}\.self_attn\.grep_linear\.(weight|bias)",
        r"encoder.layers.\1.attention.gru_rel_pos_linear.\2",
    ),
    (rf"{_LAYER}\.self_attn\.grep_a", r"encoder.layers.\1.attention.gru_rel_pos_const"),
    (
        rf"{_LAYER}\.self_attn\.relative_attention_bias\.weight",
        r"encoder.layers.\1.attention.rel_attn_embed.weight",
    ),
    (rf"{_LAYER}\.self_attn_layer_norm\.(weight|bias)", r"encoder.layers.\1.layer_norm.\2"),
    (
        rf"{_LAYER}\.fc1\.(weight|bias)",
        r"encoder.layers.\1.feed_forward.intermediate_dense.\2",
    ),
    (rf"{_LAYER}\.fc2\.(weight|bias)", r"encoder.layers.\1.feed_forward.output_dense.\2"),
    (rf"{_LAYER}\.final_layer_norm\.(weight|bias)", r"encoder.layers.\1.final_layer_norm.\2"),
    (r"mask_emb|label_embs_concat|(?:input_)?quantizer\..+|project_q\..+|project_inp\..+", None),
    (r"(?:final_)?proj\..+|target_glu\..+", None),
)

#: torchaudio's models, and DPHuBERT's, which are made from them.
TORCHAUDIO: Rules = (
    (
        rf"{_CONV}\.(conv|layer_norm)\.(weight|bias)",
        r"feature_extractor.conv_layers.\1.\2.\3",
    ),
    (r"feature_extractor\.dummy_weight", r"feature_projection.layer_norm.gain"),
    (
        r"encoder\.feature_projection\.(layer_norm|projection)\.(weight|bias)",
        r"feature_projection.\1.\2",
    ),
    (r"encoder\.transformer\.pos_conv_embed\.conv\.(.+)", r"encoder.pos_conv_embed.conv.\1"),
    (r"encoder\.transformer\.layer_norm\.(weight|bias)", r"encoder.layer_norm.\1"),
    # torch's MultiheadAttention inside WavLM's; Q, K and V are one matrix there.
    (
        r"encoder\.transformer\.(layers\.\d+)\.attention\.attention\.in_proj_(weight|bias)",
        r"encoder.\1.attention.qkv.\2",
    ),
    (
        r"encoder\.transformer\.(layers\.\d+)\.attention\.attention\.out_proj\.(weight|bias)",
        r"encoder.\1.attention.out_proj.\2",
    ),
    (
        r"encoder\.transformer\.(layers\.\d+)\.attention\."
        r"([qkv]_proj\.\w+|out_proj\.\w+|gru_rel_pos_linear\.\w+|gru_rel_pos_const|"
        r"rel_attn_embed\.weight)",
        r"encoder.\1.attention.\2",
    ),
    (
        r"encoder\.transformer\.(layers\.\d+\."
        r"(?:layer_norm|final_layer_norm|feed_forward\.intermediate_dense|"
        r"feed_forward\.output_dense)\.(?:weight|bias))",
        r"encoder.\1",
    ),
    (r"aux\..+|(?:mask_generator|logit_generator)\..+", None),
)


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
