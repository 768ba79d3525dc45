import pytest
import torch
import torch.nn.functional as F

from espnet_prune.backbones.layers import LONG_ENOUGH, _conv1d


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("frames", [LONG_ENOUGH // 2 - 1, LONG_ENOUGH])
def test_channels_innermost_changes_nothing(groups, frames):
    """Short and long batches; output channels of the groups and an even kernel as in the models."""
    torch.manual_seed(0)
    x = torch.randn(2, frames, 24).transpose(1, 2)
    weight, bias = torch.randn(groups * 5, 24 // groups, 8), torch.randn(groups * 5)
    found = _conv1d(x, weight, bias, 4, groups)
    assert torch.allclose(found, F.conv1d(x, weight, bias, padding=4, groups=groups), atol=1e-4)
    assert found.shape == (2, groups * 5, frames + 1)
