"""The probes on frames against the layers they are made of, and the labels of diarisation."""

import pytest
import torch

from espnet_prune.data.corpora.librimix import frame_labels
from espnet_prune.plugin.probes.frames import FrameLabels, FrameProbe, LSTMProbe
from espnet_prune.structured import load_encoder

LENGTHS = torch.tensor([4, 9, 1])  # not sorted


@pytest.fixture
def features():
    torch.manual_seed(0)
    return torch.randn(3, 11, 6)


def test_linear_layer_alone(features):
    probe = FrameProbe(6, project_size=5)
    out, lengths, states = probe(features, LENGTHS)
    assert probe.output_size() == 5 and out.shape == (3, 9, 5)  # 9 is the longest
    assert torch.equal(lengths, LENGTHS) and states is None
    weight, bias = probe.project.weight, probe.project.bias
    torch.testing.assert_close(out[1], features[1, :9] @ weight.T + bias)
    assert sum(p.numel() for p in probe.parameters()) == 6 * 5 + 5


@pytest.mark.parametrize("layers", [1, 2])
def test_recurrent_layers_see_no_padding(features, layers):
    probe = FrameProbe(6, project_size=5, num_layers=layers, hidden_size=4).eval()
    out, lengths, _ = probe(features, LENGTHS)
    assert probe.output_size() == 8 and out.shape == (3, 9, 8)
    for utterance, length in enumerate(LENGTHS.tolist()):
        alone, _ = probe.recurrent(probe.project(features[utterance : utterance + 1, :length]))
        torch.testing.assert_close(out[utterance, :length], alone[0])
        assert not out[utterance, length:].any()


def test_dropout_behind_each_recurrent_layer(features):
    probe = FrameProbe(6, project_size=5, num_layers=2, hidden_size=64, dropout=0.5)
    assert probe.recurrent.dropout == 0.5  # between the two
    out, _, _ = probe(features, LENGTHS)
    share = (out[1] == 0).float().mean()  # behind the second
    assert 0.4 < share < 0.6
    probe.eval()
    assert probe(features, LENGTHS)[0][1].all()


@pytest.mark.parametrize(
    "option", [{"project_size": 0}, {"num_layers": -1}, {"hidden_size": 0}, {"dropout": 1.0}]
)
def test_what_cannot_be(option):
    name, value = next(iter(option.items()))
    with pytest.raises(ValueError, match=f"frame_probe: {name}: {value} is out of its range"):
        FrameProbe(6, **option)


def test_the_lstm_alone():
    torch.manual_seed(0)
    probe = LSTMProbe(6, hidden_size=5)
    features, lengths = torch.randn(3, 9, 6), torch.tensor([4, 9, 1])
    out, frames, states = probe(features, lengths)
    assert probe.output_size() == 5 and out.shape == (3, 9, 5)
    assert torch.equal(frames, lengths) and states is None
    for row, length in enumerate(lengths.tolist()):
        alone, _ = probe.recurrent(features[row : row + 1, :length])
        torch.testing.assert_close(out[row, :length], alone[0])
        assert not out[row, length:].any()
    # An LSTM of one layer has 4 (D + H + 2) H parameters
    assert sum(p.numel() for p in LSTMProbe(768).parameters()) == 4 * (768 + 512 + 2) * 512


def test_a_bit_for_each_speaker():
    numbers = torch.tensor([[0, 1, 2, 3], [2, 3, -1, -1]])  # -1 is ESPnet's padding
    labels, lengths = FrameLabels()(numbers, torch.tensor([4, 2]))
    assert labels[0].tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert labels[1].tolist() == [[0, 1], [1, 1], [0, 0], [0, 0]]
    assert labels.dtype == torch.float32 and lengths.tolist() == [4, 2]
    assert FrameLabels(num_spk=3)(torch.tensor([[5]]))[0].tolist() == [[[1, 0, 1]]]


@pytest.mark.parametrize("family", ["wavlm", "hubert", "whisper"])
def test_as_many_labels_as_frames_or_two_more(tiny, family):
    """ESPnet's model cuts two superfluous labels off, and cannot do with fewer."""
    encoder = load_encoder(tiny[family])
    least = encoder.family_of.minimum_samples(encoder.config.base)
    for samples in [least, least + 1, *range(16000, 16000 + 322, 7)]:
        frames = int(encoder.family_of.frames(encoder.backbone, torch.tensor([samples]))[0])
        assert 0 <= len(frame_labels([], [], samples)) - frames <= 2, samples
