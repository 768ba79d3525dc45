"""Imported checkpoints against the implementations that they come from, at full size.

Random models as large as the published ones, saved as they are passed around, are imported and
compared in all hidden states, on 2 s of noise. Takes minutes and, for the Large models, some GB.
torchaudio is the reference for its own state dicts and, with units silenced, for DPHuBERT's files;
s3prl, which is no dependency, for fairseq's layout and Microsoft's WavLM. Too large to be collected
with the other tests; with s3prl 0.4.18:

    PYTHONPATH=<site-packages with s3prl> \\
        python -m pytest -s test/espnet_prune/structured/checkpoints/full_size.py
"""

import tempfile
from pathlib import Path

import pytest
import torch
import torchaudio

from espnet_prune.structured.checkpoints import import_checkpoint
from test.espnet_prune.structured.checkpoints import (
    dphubert_files,
    s3prl_reference,
    torchaudio_models,
)

SPEECH = torch.randn(1, 32000, generator=torch.Generator().manual_seed(0))
SIZES = {"base": (12, 768, 12, 3072), "large": (24, 1024, 16, 4096)}
CONV = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"
#: torchaudio's bundles of each layout
BUNDLES = "WAV2VEC2_BASE", "WAV2VEC2_LARGE_LV60K", "HUBERT_BASE", "WAVLM_BASE_PLUS", "WAVLM_LARGE"
DPHUBERT = ("base", True), ("base", False), ("large", True)
BUCKETS = {"num_buckets": 320, "max_distance": 800}


def imported(content):
    """What `import_checkpoint` makes of a file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        torch.save(content, path)
        return import_checkpoint(path)


def largest_difference(encoder, expected) -> float:
    """Over all states, in units of the largest number of each."""
    out = encoder(SPEECH)
    pairs = zip([*out.hidden_states[:-1], out.last_hidden_state], expected, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1)) for a, b in pairs)


def bundle(name: str):
    """(kind of the file, encoder, largest difference) of a bundle's architecture."""
    model = torchaudio_models.build(getattr(torchaudio.pipelines, name)._params)
    kind, encoder = imported(model.state_dict())
    encoder.config.do_normalize = False  # a bundle does it outside its model
    expected, _ = torchaudio_models.hidden_states(model, SPEECH)
    return kind, encoder, largest_difference(encoder, expected)


def dphubert(layout: str, wavlm: bool):
    """As `bundle`, of a model cut at random: a layer without heads and one without feed-forward."""
    generator = torch.Generator().manual_seed(1)

    def draw(least: int, most: int) -> int:
        return int(torch.randint(least, most, (1,), generator=generator))

    layers, width, heads, inner = SIZES[layout]
    kept = [
        torch.randperm(heads, generator=generator)[: draw(0, heads // 2)] for _ in range(layers)
    ]
    kept = [sorted(row.tolist()) for row in kept]
    ffn = [draw(0, 1200) for _ in range(layers)]
    kept[5], ffn[3] = [], 0
    sizes = {
        "encoder_embed_dim": width,
        "encoder_num_layers": layers,
        "encoder_num_heads": heads,
        "encoder_ff_interm_features": inner,
        "encoder_pos_conv_kernel": 128,
        "encoder_pos_conv_groups": 16,
        **({f"encoder_{name}": value for name, value in BUCKETS.items()} if wavlm else {}),
    }
    channels = [draw(150, 512) for _ in range(7)]
    content, model = dphubert_files.cut(
        layout, wavlm, True, heads=kept, ffn=ffn, channels=channels, **sizes
    )
    kind, encoder = imported(content)
    expected, _ = torchaudio_models.hidden_states(model, SPEECH)
    return kind, encoder, largest_difference(encoder, expected)


def s3prl(case: str):
    """As `bundle`, of one of `s3prl_reference.CASES`."""
    family, layout = case.split("-")
    layers, width, heads, inner = SIZES[layout]
    options = {
        **s3prl_reference.CASES[case],
        "conv_feature_layers": CONV,
        "encoder_layers": layers,
        "encoder_embed_dim": width,
        "encoder_ffn_embed_dim": inner,
        "encoder_attention_heads": heads,
        "conv_pos": 128,
        "conv_pos_groups": 16,
        **(BUCKETS if family == "wavlm" else {}),
    }
    torch.manual_seed(0)
    model = s3prl_reference.build(case, options)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.add_(0.2 * torch.randn_like(parameter))
    conf = options if family == "wavlm" else {"model": options, "task": {"normalize": False}}
    kind, encoder = imported({"cfg": conf, "model": model.state_dict()})
    expected = s3prl_reference.hidden_states(model, SPEECH)
    return kind, encoder, largest_difference(encoder, expected)


def show(name: str, reference: str, compared) -> None:
    """A row of RESULTS.md's table, and the check."""
    kind, encoder, difference = compared
    size = sum(p.numel() for p in encoder.parameters()) / 1e6
    print(f"\n| {kind} | {name} | {reference} | {size:.2f} | {difference:.1e} |", flush=True)
    assert difference < 2e-6


@torch.no_grad()
@pytest.mark.parametrize("name", BUNDLES)
def test_torchaudio(name):
    show(name, "torchaudio", bundle(name))


@torch.no_grad()
@pytest.mark.parametrize("layout, wavlm", DPHUBERT)
def test_dphubert(layout, wavlm):
    name = f"{'WavLM' if wavlm else 'HuBERT'} {layout}, cut"
    show(name, "torchaudio", dphubert(layout, wavlm))


@torch.no_grad()
@pytest.mark.parametrize("case", s3prl_reference.CASES)
def test_s3prl(case):
    pytest.importorskip("s3prl")
    show(case, "s3prl", s3prl(case))
