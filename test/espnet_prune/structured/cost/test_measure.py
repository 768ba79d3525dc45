import numpy as np
import pytest
import torch

from espnet_prune.structured import GatedEncoder, load_encoder, slim
from espnet_prune.structured.cost.measure import Timing, counted_macs, peak_memory, time_encoders
from test.espnet_prune.tiny import random_masks, saved


def halved(encoder):
    return slim(encoder, random_masks(encoder.plan(), torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("layout", ["whisper", "wav2vec2-base", "hubert-large", "wavlm-base"])
def test_the_declared_macs_are_those_that_torch_counts(layout, tmp_path):
    """At full size, where the frames lost at the edges of the convolutions hardly count."""
    encoder = load_encoder(saved(layout, tmp_path, full_size=True)).eval()
    seconds = 30.0 if layout == "whisper" else 3.0
    gated = GatedEncoder(encoder)
    with torch.no_grad():
        for n, alpha in enumerate(gated.log_alphas().values()):
            alpha.copy_(torch.randn(len(alpha), generator=torch.Generator().manual_seed(n)))
    for model in (encoder, slim(encoder, gated.hard_masks(0.6))):
        declared = float(model.plan(seconds).macs()) * seconds
        assert counted_macs(model, seconds)[""] == pytest.approx(declared, rel=0.02)


def test_modules_add_up(tmp_path):
    encoder = load_encoder(saved("wavlm-base", tmp_path)).eval()
    counts = counted_macs(encoder, 2.0)
    layers = [counts[f"backbone.encoder.layers.{n}"] for n in range(3)]
    parts = ("backbone.feature_extractor", "backbone.feature_projection")
    rest = sum(counts[p] for p in (*parts, "backbone.encoder.pos_conv_embed"))
    assert sum(layers) + rest == pytest.approx(counts[""])
    assert counts["backbone.encoder.layers.0.attention"] < layers[0]


def test_timings_take_turns_and_know_their_audio(tmp_path, monkeypatch):
    encoder = load_encoder(saved("whisper", tmp_path)).eval()
    order = []
    pruned = halved(encoder)
    for name, model in (("dense", encoder), ("pruned", pruned)):
        forward = model.forward
        monkeypatch.setattr(
            model, "forward", lambda *a, f=forward, n=name, **k: order.append(n) or f(*a, **k)
        )
    timings = time_encoders([encoder, pruned], 0.5, 3, batch=2)
    assert order == ["dense", "pruned"] * 5
    assert all(len(t.times) == 3 and (t.times > 0).all() and t.audio == 1.0 for t in timings)


def test_percentiles_and_real_time_factor():
    timing = Timing(np.array([0.1, 0.2, 0.6]), audio=2.0)
    assert timing.percentile(0) == 0.1 and timing.percentile(100) == 0.6
    assert timing.real_time_factor == pytest.approx(0.1)


def test_peak_memory_sees_the_activations(tmp_path):
    encoder = load_encoder(saved("wavlm-base", tmp_path)).eval()
    peak = peak_memory(encoder, 20.0)
    if peak is None:
        pytest.skip("this system does not tell a process's peak")
    # attention of 4 heads over 1000 frames in float32 alone is 16 MB; at least the waveform is new
    assert 0 < peak < 2e9
