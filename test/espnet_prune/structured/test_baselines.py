import pytest
import torch

from espnet_prune.structured import load_encoder, slim
from espnet_prune.structured.baselines import from_scratch
from test.espnet_prune.tiny import CLASSES, batch, random_masks


def shapes(encoder):
    return {name: tuple(value.shape) for name, value in encoder.state_dict().items()}


@pytest.mark.parametrize("family", ["whisper", "wav2vec2", "hubert", "wavlm"])
def test_same_structure_other_weights(tiny, family):
    dense = load_encoder(tiny[family])
    masks = random_masks(dense.plan(), torch.Generator().manual_seed(0), coarse=1.0)
    like = slim(dense, masks).eval()
    before = {name: value.clone() for name, value in like.state_dict().items()}
    state = torch.get_rng_state()
    student, same, other = (from_scratch(like, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in like.state_dict().items())
    assert shapes(student) == shapes(like) and student.kept == like.kept
    assert student.config.do_normalize == like.config.do_normalize
    given = dict(like.named_parameters())
    matrices = 0
    for name, parameter in student.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name))
        if not parameter.requires_grad:
            assert torch.equal(parameter, given[name])
        elif parameter.dim() > 1 and parameter.numel() > 1 and parameter.std() > 0:
            matrices += 1
            assert not torch.equal(parameter, given[name])
            assert not torch.equal(parameter, other.get_parameter(name))
    assert matrices > 3
    speech, lengths = batch()
    assert torch.isfinite(student(speech, lengths).last_hidden_state).all()


@pytest.mark.parametrize("family", CLASSES)
def test_drawn_as_the_family_draws(tiny, family):
    """Its own class, built from the same seed; weight norm is folded in the positional convolution,
    whose spread is that of the family's rule."""
    like = load_encoder(tiny[family])
    config, kind = CLASSES[family]
    torch.manual_seed(5)
    own = dict(kind(config(**like.config.base)).named_parameters())
    student = from_scratch(like, seed=5).backbone
    conv = "encoder.pos_conv_embed.conv"
    for name, parameter in student.named_parameters():
        if name in own and not name.startswith(conv):
            assert torch.equal(parameter, own[name]), name
    weight = student.get_parameter(f"{conv}.weight")
    g, v = (own[f"{conv}.parametrizations.weight.original{n}"] for n in (0, 1))
    norm = v.square().sum((0, 1), keepdim=True).sqrt()
    torch.testing.assert_close(weight, v * g / norm)
    assert torch.equal(student.get_parameter(f"{conv}.bias"), own[f"{conv}.bias"])


def test_positions_of_whisper_are_kept(tiny):
    like = load_encoder(tiny["whisper"])
    positions = "backbone.embed_positions.weight"
    with torch.no_grad():
        like.get_parameter(positions).mul_(0.5)
    assert torch.equal(from_scratch(like).get_parameter(positions), like.get_parameter(positions))
