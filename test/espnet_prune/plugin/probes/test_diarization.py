"""The probe of speaker diarisation, and the labels it learns from."""

import pytest
import torch

from espnet_prune.data.corpora.librimix import frame_labels
from espnet_prune.plugin.probes.diarization import FrameLabels, LSTMProbe
from espnet_prune.structured import load_encoder


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
