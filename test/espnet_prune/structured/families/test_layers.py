import pytest
import torch
import torch.nn.functional as F

from espnet_prune.structured import load_encoder, slim
from espnet_prune.structured.families.layers import LONG_ENOUGH, PrunableRelativeAttention, _conv1d
from test.espnet_prune.tiny import random_masks, saved


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("frames", [LONG_ENOUGH // 2 - 1, LONG_ENOUGH])
def test_channels_innermost_changes_nothing(groups, frames):
    """Short and long batches; output channels of the groups and an even kernel as in the models."""
    torch.manual_seed(0)
    x = torch.randn(2, frames, 24).transpose(1, 2)
    weight, bias = torch.randn(groups * 5, 24 // groups, 8), torch.randn(groups * 5)
    found = _conv1d(x, weight, bias, 1, 4, groups)
    assert torch.allclose(found, F.conv1d(x, weight, bias, padding=4, groups=groups), atol=1e-4)
    assert found.shape == (2, groups * 5, frames + 1)


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_wavlm_attends_on_gpus_as_on_cpus(tmp_path, seed, padded):
    """With heads gone and the others of unequal size: the gated bias as a mask of fused kernels
    against plain products head by head."""
    generator = torch.Generator().manual_seed(seed)
    dense = load_encoder(saved("wavlm-base", tmp_path))
    masks = random_masks(dense.plan(), generator, coarse=1.0)
    for name, site in dense.plan().sites.items():
        if site.kind in ("head", "qk", "vo"):
            masks[name] = (torch.rand(masks[name].shape, generator=generator) < 0.6).float()
    small = slim(dense, masks)
    layers = [m for m in small.modules() if isinstance(m, PrunableRelativeAttention)]
    layers = [layer for layer in layers if layer.heads]
    bias = 3 * torch.randn(layers[0].base_heads, 9, 9, generator=generator)
    x = torch.randn(2, 9, small.hidden_size, generator=generator)
    padding = torch.tensor([[False] * 9, [False] * 6 + [True] * 3]) if padded else None
    for layer in layers:
        gates = layer.gates(x)
        found = layer._all_heads(x, bias, gates, padding)
        expected = layer.out_proj(layer._head_by_head(x, bias, gates, padding))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        other = layer._all_heads(x, bias.flip(0), gates, padding)  # each head has its own
        assert not torch.allclose(found, other, atol=1e-3)
