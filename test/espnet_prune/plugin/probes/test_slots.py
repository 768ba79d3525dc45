import itertools

import pytest
import torch
from torch.nn import functional

from espnet_prune.plugin.probes.slots import SlotDecoder

SIZES = (3, 2, 4)


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return SlotDecoder(24, 5, slot_sizes=SIZES)


def per_slot(decoder, features):
    """The logits of each slot, from the weights themselves."""
    logits = features.mean(dim=0) @ decoder.linear_out.weight.T + decoder.linear_out.bias
    return logits.split(SIZES)


def test_cross_entropy_is_the_sum_over_slots(decoder):
    features = torch.randn(2, 7, 5)
    lengths = torch.tensor([7, 4])
    combinations = list(itertools.product(*map(range, SIZES)))
    logits = decoder(features, lengths)
    assert logits.shape == (2, 24)
    for number, length in enumerate(lengths.tolist()):
        slots = per_slot(decoder, features[number, :length])
        for place in (0, 5, 23):
            loss = functional.cross_entropy(logits[number], torch.tensor(place))
            wanted = sum(
                functional.cross_entropy(slot, torch.tensor(value))
                for slot, value in zip(slots, combinations[place], strict=True)
            )
            torch.testing.assert_close(loss, wanted)
        best = combinations[int(logits[number].argmax())]
        assert best == tuple(int(slot.argmax()) for slot in slots)
        single, _ = decoder.score(None, None, features[number, :length])
        torch.testing.assert_close(single, logits[number])


def test_wrong_sizes():
    with pytest.raises(ValueError, match=r"slot_sizes: \[3, 2\] does not multiply to the 24"):
        SlotDecoder(24, 5, slot_sizes=[3, 2])
