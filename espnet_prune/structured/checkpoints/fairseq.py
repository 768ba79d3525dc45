"""fairseq's `.pt` of wav2vec 2.0 and HuBERT (pre-trained or fine-tuned), WavLM's, s3prl's.

    fairseq    {"args": Namespace or None, "cfg": options or None, "model": tensors, …}
    WavLM      {"cfg": options, "model": tensors}
    s3prl      {"task_cfg": options, "model_cfg": options, "model_weight": tensors, …}

A fine-tuned model has the pre-trained one inside, in tensors (`w2v_encoder.w2v_model.`) as in
options (`w2v_args`).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from espnet_prune.structured.checkpoints.architecture import Contents, Options, rename, strides
from espnet_prune.structured.families.family import strip


def matches(content: object) -> bool:
    """Whether an opened file is of this format."""
    names = ("model", "model_weight")
    return isinstance(content, dict) and any(isinstance(content.get(n), dict) for n in names)


def convert(content: dict) -> Contents:
    """
    Raises:
        ValueError: options are missing or ask for something that these families do not have.
    """
    model, task = _options(content)
    if model.get("layer_type", "transformer") != "transformer":
        raise ValueError(f"layer_type '{model['layer_type']}' is not supported")
    tensors = content["model"] if "model" in content else content["model_weight"]
    tensors = strip(tensors, "w2v_encoder.w2v_model.", "w2v_model.")
    state = rename(tensors, "fairseq")
    base = state.sizes()
    base |= {
        "conv_stride": strides(_conv_layers(model), base, "conv_feature_layers"),
        "num_attention_heads": int(model["encoder_attention_heads"]),
        "do_stable_layer_norm": bool(model["layer_norm_first"]),
        "hidden_act": model.get("activation_fn", "gelu"),
        "hidden_dropout": float(model.get("dropout", 0.1)),
        "attention_dropout": float(model.get("attention_dropout", 0.1)),
        "activation_dropout": float(model.get("activation_dropout", 0.0)),
        "feat_proj_dropout": float(model.get("dropout_input", 0.0)),
    }
    if base["hidden_act"] not in ("gelu", "relu"):
        raise ValueError(f"activation_fn '{base['hidden_act']}' is not supported")
    family = "wav2vec2"
    if state.is_wavlm():
        family = "wavlm"
        base["max_bucket_distance"] = int(model["max_distance"])
    elif "label_embs_concat" in tensors or "label_rate" in model:
        family = "hubert"
    return Contents(family, base, state, bool(task.get("normalize", False)))


def _options(content: dict) -> tuple[Options, Mapping]:
    """Options of the (innermost) model and of the task."""
    if "model_weight" in content:
        model, task = content.get("model_cfg"), content.get("task_cfg")
    else:
        options = content.get("cfg") or content.get("args")
        model = task = options
        while isinstance(model, dict):
            inner = model.get("w2v_args") or model.get("model")
            if not isinstance(inner, dict):
                break
            model = inner
        # Options of old versions are flat; of a fine-tuned model's two tasks the outer counts.
        if isinstance(options, dict) and isinstance(options.get("task"), dict):
            task = options["task"]
    if not isinstance(model, dict):
        raise ValueError("has tensors, but no options ('cfg' or 'args') of its model")
    return Options(model), task if isinstance(task, dict) else {}


def _conv_layers(model: Options) -> list[tuple[int, int, int]]:
    """`conv_feature_layers`, e.g. "[(512,10,5)] + [(512,3,2)] * 4", as (channels, kernel, stride).

    fairseq evaluates the text as Python; here only lists, `+` and `*` are.
    """
    text = model["conv_feature_layers"]
    try:
        layers = _evaluate(ast.parse(text, mode="eval").body)
        return [(int(dim), int(kernel), int(stride)) for dim, kernel, stride in layers]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"conv_feature_layers '{text}' cannot be read") from None


def _evaluate(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _evaluate(node.left), _evaluate(node.right)
        if isinstance(left, list) and isinstance(right, list):
            return left + right
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = _evaluate(node.left), ast.literal_eval(node.right)
        few = isinstance(right, int) and 0 <= right < 100 and len(left) * right < 1000
        if isinstance(left, list) and few:
            return left * right
    return ast.literal_eval(node)
