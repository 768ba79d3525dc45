"""Hidden states of s3prl's wav2vec 2.0, HuBERT and WavLM, the reference for fairseq's layout.

s3prl carries fairseq's and Microsoft's own code for these models. It is no dependency: what the
tests need of it, names and shapes of tensors and some hidden states of models with weights from a
formula, is in `s3prl_facts.json`. Where s3prl 0.4.18 can be imported this file writes it anew:

    PYTHONPATH=<site-packages with s3prl> \
        python test/espnet_prune/structured/checkpoints/s3prl_reference.py
"""

import json
import math
import zlib
from pathlib import Path

import torch

FACTS = Path(__file__).with_name("s3prl_facts.json")
FRAME = 2  # the frame of every hidden state that is compared

_SMALL = {
    "conv_feature_layers": "[(8,10,5)] + [(8,3,2)] * 4 + [(8,2,2)] * 2",
    "encoder_layers": 2,
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 20,
    "encoder_attention_heads": 2,
    "conv_pos": 5,
    "conv_pos_groups": 2,
}
_LARGE = {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True}
_BASE = {"extractor_mode": "default", "layer_norm_first": False, "conv_bias": False}
_OWN = {
    "wav2vec2": {},
    "hubert": {"label_rate": 50.0},
    "wavlm": {
        "relative_position_embedding": True,
        "gru_rel_pos": True,
        "num_buckets": 8,
        "max_distance": 9,  # so that nine frames reach all kinds of buckets
    },
}
CASES = {
    f"{family}-{layout}": {**_SMALL, **sizes, **own}
    for family, own in _OWN.items()
    for layout, sizes in (("base", _BASE), ("large", _LARGE))
}


def waveform(samples: int = 3200) -> torch.Tensor:
    """(1, samples)"""
    time = torch.arange(samples, dtype=torch.double)
    return torch.sin(1e-5 * time.square() + 0.1).float()[None]


def weights(name: str, shape: list[int]) -> torch.Tensor:
    """A tensor that depends on its name and shape alone, of about unit gain."""
    count = math.prod(shape)
    index = torch.arange(count, dtype=torch.double)
    values = torch.sin(0.37 * index.square() + zlib.crc32(name.encode()) % 1000)
    if name.endswith("norm.weight") or ".2.weight" in name or ".2.1.weight" in name:
        values = 1 + 0.3 * values
    elif name.endswith("weight_g"):
        values = 1.5 + 0.5 * values
    elif len(shape) > 1:
        values = values * math.sqrt(2 / math.prod(shape[1:]))
    else:
        values = 0.3 * values
    return values.float().reshape(shape)


def build(case: str, options: dict) -> torch.nn.Module:
    """s3prl's model."""
    family = case.split("-")[0]
    if family == "wavlm":
        from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

        return WavLM(WavLMConfig(options)).eval()
    if family == "hubert":
        from s3prl.upstream.hubert.hubert_model import (
            HubertConfig,
            HubertModel,
            HubertPretrainingConfig,
        )

        return HubertModel(HubertConfig(**options), HubertPretrainingConfig(), [list("abc")]).eval()
    from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model

    return Wav2Vec2Model(Wav2Vec2Config(**options)).eval()


@torch.no_grad()
def hidden_states(model: torch.nn.Module, speech: torch.Tensor) -> list[torch.Tensor]:
    """(B, T', D) each: the input of the first layer and the outputs of all, as s3prl takes them."""
    states = []
    hooks = [
        layer.register_forward_hook(lambda m, i, o: states.append((i[0], o[0])))
        for layer in model.encoder.layers
    ]
    out = model.extract_features(speech, padding_mask=None, mask=False)
    hooks = [hook.remove() for hook in hooks]
    last = out["x"] if isinstance(out, dict) else out[0]
    frames = last.shape[1]  # without what fairseq pads for the sake of half precision
    inputs = [i.transpose(0, 1)[:, :frames] for i, _ in states]
    return [*inputs, last]


def main() -> None:
    facts = {}
    for case, options in CASES.items():
        model = build(case, options)
        shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
        model.load_state_dict({name: weights(name, shape) for name, shape in shapes.items()})
        states = hidden_states(model, waveform())
        facts[case] = {
            "options": options,
            "shapes": shapes,
            "frames": states[0].shape[1],
            "states": [[round(v, 5) for v in state[0, FRAME].tolist()] for state in states],
        }
    lines = []
    for case, fact in facts.items():
        entries = [f'    "{key}": {json.dumps(value)}' for key, value in fact.items()]
        lines.append(f'  "{case}": {{\n' + ",\n".join(entries) + "\n  }")
    FACTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
