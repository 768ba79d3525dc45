"""The probe on frames against the layers it is made of, one utterance at a time."""

import pytest
import torch

from espnet_prune.plugin.probes.frames import FrameProbe

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
