"""A probe sees the same with and without the cache."""

import pytest
import torch

from espnet_prune.plugin.pruned_ssl import PrunedSSLFrontend, random_crop
from espnet_prune.structured import load_encoder
from espnet_prune.structured.distill.state_cache import FeatureCache, bytes_of
from test.espnet_prune.tiny import LAYOUTS, batch, saved


def files(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_are_those_without_the_cache(layout, tmp_path):
    model = str(saved(layout, tmp_path / "dense"))
    speech, lengths = batch()
    plain = PrunedSSLFrontend(model, full_window=False)
    cached = PrunedSSLFrontend(model, full_window=False, cache=str(tmp_path / "cache"))
    weights = torch.randn(4, generator=torch.Generator().manual_seed(0))
    for frontend in (plain, cached):
        frontend.layer_weights.data.copy_(weights)
    with torch.no_grad():
        frames = plain(speech, lengths)[1]
        first, first_frames = cached(speech, lengths)
        size = sum(path.stat().st_size for path in files(tmp_path / "cache"))
        again, _ = cached(speech[:, :, None], lengths)
        # Alone: with group normalisation (the Base models) padding changes what the encoder hears
        want = [
            plain(s[None, :n], torch.tensor([n]))[0][0]
            for s, n in zip(speech, lengths, strict=True)
        ]
    assert frames.tolist() == first_frames.tolist()
    assert torch.equal(first, again)
    for row, length in enumerate(frames.tolist()):
        assert len(want[row]) == length
        largest = float(want[row].abs().max())
        assert (first[row, :length] - want[row]).abs().max() < 1e-5 * largest
        assert not first[row, length:].any()
    told = sum(bytes_of(plain.pretrained.encoder, length) for length in lengths.tolist())
    assert 0.85 * told < size < 1.15 * told + 1000  # a header, and the frames at the edges


def test_the_encoder_is_asked_once(tmp_path, monkeypatch):
    model = str(saved("whisper", tmp_path / "dense"))
    options = {"model": model, "cache": str(tmp_path / "cache")}
    speech, lengths = batch()
    frontend = PrunedSSLFrontend(**options)
    loss = frontend(speech, lengths)[0].square().mean()
    loss.backward()
    assert frontend.layer_weights.grad.any()
    assert len(files(tmp_path / "cache")) == 2
    later = PrunedSSLFrontend(**options)
    monkeypatch.setattr(
        type(later.pretrained.encoder), "forward", lambda *a, **k: pytest.fail("asked again")
    )
    later(speech, lengths)
    # The layer to take is not part of what is kept
    PrunedSSLFrontend(**options, layer=1)(speech, lengths)


def test_other_weights_are_other_entries(tmp_path):
    encoder = load_encoder(saved("wavlm-base", tmp_path / "dense")).eval()
    FeatureCache(tmp_path / "cache", encoder, True).features(*batch())
    next(encoder.parameters()).data.view(-1)[0] += 1e-3
    FeatureCache(tmp_path / "cache", encoder, True).features(*batch())
    assert len(files(tmp_path / "cache")) == 4


def test_what_cannot_be_cached(tmp_path):
    model = str(saved("wavlm-base", tmp_path / "dense"))
    with pytest.raises(ValueError, match="cache and freeze: false exclude each other"):
        PrunedSSLFrontend(model, freeze=False, cache="x")
    with pytest.raises(ValueError, match="cache and crop_seconds exclude each other"):
        PrunedSSLFrontend(model, crop_seconds=1, cache="x")


def test_crops(tmp_path):
    speech = torch.arange(1.0, 31.0).reshape(3, 10)
    lengths = torch.tensor([10, 6, 3])
    begins = set()
    for _ in range(50):
        parts, new = random_crop(speech, lengths, 4)
        assert parts.shape == (3, 4) and new.tolist() == [4, 4, 3]
        for row in range(2):  # consecutive samples of the utterance, not of its padding
            assert (parts[row].diff() == 1).all()
            assert 10 * row < parts[row, 0] and parts[row, -1] <= 10 * row + lengths[row]
        assert parts[2].tolist() == [21, 22, 23, 0]
        begins.add(int(parts[1, 0]) - 11)
    assert begins == {0, 1, 2}


def test_crops_in_training_only(tmp_path):
    model = str(saved("wavlm-base", tmp_path / "dense"))
    frontend = PrunedSSLFrontend(model, crop_seconds=0.4)
    speech, lengths = batch(0.8)  # 0.8 s and 0.56 s
    trained, evaluated = frontend.train()(speech, lengths)[1], frontend.eval()(speech, lengths)[1]
    assert trained[0] == trained[1] < evaluated[1] < evaluated[0]
    for seconds in (0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"crop_seconds: {seconds}, must be positive"):
            PrunedSSLFrontend(model, crop_seconds=seconds)
