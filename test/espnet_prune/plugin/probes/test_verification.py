"""The probe of speaker verification, and its parts inside ESPnet's task."""

import math

import numpy as np
import pytest
import torch

from espnet_prune.plugin.probes.verification import (
    AMSoftmax,
    SpeakerCrops,
    XvectorProbe,
    XvectorProbeProjector,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_each_frame_of_the_tdnn_sees_seven_on_both_sides():
    probe = XvectorProbe(4, hidden_size=16, output_size=24).double()
    x = torch.randn(2, 40, 4, dtype=torch.double, requires_grad=True)
    out = probe(x)
    assert probe.output_size() == 24 and out.shape == (2, 24, 40)
    out[0, :, 20].sum().backward()
    (seen,) = x.grad[0].abs().sum(dim=1).nonzero(as_tuple=True)
    # 2 of the first layer, 2 of the second and 3 of the third
    assert (seen.min(), seen.max()) == (13, 27) and not x.grad[1].any()


def test_sizes_are_those_of_s3prl():
    sizes = [tuple(p.shape) for p in XvectorProbe(768).parameters() if p.dim() > 1]
    assert sizes == [
        (512, 768),
        (512, 512, 5),
        (512, 512, 3),
        (512, 512, 3),
        (512, 512, 1),
        (1500, 512, 1),
    ]


def test_utterances_shorter_than_the_context():
    probe = XvectorProbe(4, hidden_size=5, output_size=6).eval()
    x = torch.randn(1, 1, 4)
    assert probe(x).shape == (1, 6, 1)
    # One frame is as the same frame for ever
    torch.testing.assert_close(probe(x)[0, :, 0], probe(x.repeat(1, 30, 1))[0, :, 15])


def test_embedding_is_the_layer_before_the_last():
    projector = XvectorProbeProjector(6, output_size=4)
    x = torch.randn(3, 6)
    first = torch.clamp(x @ projector.first.weight.T + projector.first.bias, min=0)
    second = torch.clamp(first @ projector.second.weight.T + projector.second.bias, min=0)
    torch.testing.assert_close(projector.train()(x), second)
    torch.testing.assert_close(projector.eval()(x), first)
    assert projector.output_size() == 4


def test_margin_by_hand():
    loss = AMSoftmax(2, 3, scale=30.0, margin=0.4)
    with torch.no_grad():
        loss.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]))
    embeddings = torch.tensor([[4.0, 3.0], [0.0, 1.0]])
    cosines = [[0.8, 0.6, 1.4 / math.sqrt(2)], [0.0, 1.0, 1 / math.sqrt(2)]]
    labels = [0, 1]
    expected = 0.0
    for row, label in zip(cosines, labels, strict=True):
        logits = [30 * (c - 0.4 * (place == label)) for place, c in enumerate(row)]
        expected += math.log(sum(map(math.exp, logits))) - logits[label]
    value, accuracy, nearest = loss(embeddings, torch.tensor(labels))
    assert value.item() == pytest.approx(expected / 2, rel=1e-5)
    assert accuracy.item() == 0.5 and nearest.tolist() == [2, 1]  # 0.99 is more than 0.8
    assert loss(embeddings)[:2] == (None, None)
    # ESPnet squeezes the labels, and those of one utterance to no dimension at all
    assert torch.isfinite(loss(embeddings[:1], torch.tensor(0))[0])


def test_whole_probe_learns_voices():
    """AM-softmax on pooled statistics tells two kinds of noise apart."""
    from espnet2.spk.pooling.stat_pooling import StatsPooling

    encoder = XvectorProbe(4, hidden_size=8, output_size=16)
    pooling, projector = StatsPooling(16), XvectorProbeProjector(32, 64)
    loss = AMSoftmax(64, 2)
    modules = torch.nn.ModuleList([encoder, projector, loss])
    optimizer = torch.optim.AdamW(modules.parameters(), lr=5e-3)
    labels = torch.tensor([0, 1]).repeat(8)
    values = []
    for _ in range(60):
        x = torch.randn(16, 20, 4) * torch.where(labels == 0, 0.3, 1.0)[:, None, None]
        value, accuracy, _ = loss(projector(pooling(encoder(x), torch.full((16,), 20))), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert accuracy.item() == 1.0 and values[-1] < 0.2 * values[0]


@pytest.fixture
def training(tmp_path):
    (tmp_path / "spk2utt").write_text("b b-1\na a-1 a-2\n")
    return SpeakerCrops(True, 0.01, spk2utt=str(tmp_path / "spk2utt"), sample_rate=1000)


def test_random_crops(training):
    speech = np.arange(25.0)
    begins = set()
    for _ in range(400):
        data = training("a-1", {"speech": speech, "spk_labels": "a"})
        begin = int(data["speech"][0])
        np.testing.assert_array_equal(data["speech"], speech[begin : begin + 10])
        assert data["spk_labels"].tolist() == [1]  # the second line
        begins.add(begin)
    assert begins == set(range(16))


@pytest.mark.parametrize("samples", [1, 4, 9, 10])
def test_short_utterances_are_repeated(training, samples):
    data = training("b-1", {"speech": np.arange(float(samples)), "spk_labels": "b"})
    assert data["speech"].tolist() == [float(n % samples) for n in range(10)]


def test_both_sides_of_a_trial():
    validation = SpeakerCrops(False, 0.01, sample_rate=1000, num_eval=2)
    data = {"speech": np.arange(30.0), "speech2": np.arange(10.0), "spk_labels": "1"}
    data = validation("a-1*b-1", data)
    assert data["speech"].shape == data["speech2"].shape == (2, 10)
    assert data["speech"][:, 0].tolist() == [0, 20] and data["spk_labels"].tolist() == [1]
