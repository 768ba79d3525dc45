"""What holds for every family: loads, equals `transformers`, slims exactly, prunes in one shot."""

import copy

import pytest
import torch

from espnet_prune.structured import GatedEncoder, load_encoder, slim
from espnet_prune.structured.families import FAMILIES
from espnet_prune.structured.one_shot import prune_one_shot
from test.espnet_prune.structured.families.zoo import ZOO
from test.espnet_prune.tiny import batch, largest_difference, random_masks

DRAWS = 24


@pytest.fixture(scope="module", params=ZOO)
def tiny(request):
    return ZOO[request.param]


@pytest.fixture(scope="module")
def encoder(tiny, tmp_path_factory):
    directory = tmp_path_factory.mktemp("dense")
    tiny.make().save_pretrained(directory)
    return load_encoder(directory)


def test_every_family_is_here():
    assert {name.split()[0] for name in ZOO} == set(FAMILIES)


@torch.no_grad()
def test_a_padded_batch_gives_what_transformers_gives(tiny, encoder):
    speech, lengths = batch(tiny.seconds)
    states, last = tiny.run(tiny.make(), speech, lengths, encoder.config.do_normalize)
    found = encoder(speech, lengths)
    assert len(found.hidden_states) == len(states) == encoder.num_layers + 1
    pairs = [*zip(found.hidden_states[:-1], states, strict=False), (found.last_hidden_state, last)]
    for ours, theirs in pairs:
        assert ours.shape[::2] == theirs.shape[::2]  # Parakeet's extractor adds an empty frame
        for a, b, frames in zip(ours, theirs, found.lengths.tolist(), strict=True):
            part = frames * ours.shape[1] // found.hidden_states[0].shape[1]
            torch.testing.assert_close(a[:part], b[:part], atol=1e-5, rtol=1e-5)
    assert 0 < found.lengths[1] < found.lengths[0]


@torch.no_grad()
def test_what_distillation_watches_is_what_a_probe_sees(encoder):
    """The last state, too: behind the final norm where there is one."""
    speech, lengths = batch()
    shown = {}
    out = encoder(speech, lengths, watch=lambda number, state: shown.update({number: state}))
    states, frames = encoder(speech, lengths).features()
    assert out.hidden_states is None and list(shown) == list(range(len(states)))
    for number, state in enumerate(states):
        assert torch.equal(shown[number][:, : int(frames.max())], state)


@torch.no_grad()
def test_slimming_is_exact(encoder, tmp_path):
    """In float64, where rounding does not hide what is not."""
    encoder = copy.deepcopy(encoder).double()
    plan, generator = encoder.plan(), torch.Generator().manual_seed(0)
    speech, lengths = batch()

    def compare(model, masks):
        whole = model.plan().canonical(masks)
        units = {name: mask.double() for name, mask in whole.items()}
        masked = GatedEncoder(model).masked_forward(units, speech, lengths)
        small = slim(model, masks).eval()
        assert largest_difference(masked, small(speech, lengths)) < 1e-9
        count = sum(p.numel() for p in small.parameters())
        assert count == int(model.plan().parameters(whole)) == int(small.plan().parameters())
        assert float(small.plan().macs()) == pytest.approx(float(model.plan().macs(whole)))
        return small

    for draw in range(DRAWS):
        small = compare(encoder, random_masks(plan, generator))
        if draw % 8 == 0:
            smaller = compare(small, random_masks(small.plan(), generator))
            smaller.save_pretrained(tmp_path / "small")
            loaded = load_encoder(tmp_path / "small")
            pairs = zip(smaller.state_dict().items(), loaded.state_dict().items(), strict=True)
            for (name, value), (other, read) in pairs:
                assert name == other and torch.equal(value.float(), read)
            assert largest_difference(smaller(speech, lengths), loaded(speech, lengths)) < 1e-4
    nothing = {name: torch.zeros(plan.size(name)) for name in plan.sites}
    compare(encoder, nothing)


def test_one_shot_meets_its_target_with_less_error_than_plain_masks(encoder):
    generator = torch.Generator().manual_seed(1)
    waves = [0.1 * torch.randn(8000 + 320 * i, generator=generator) for i in range(4)]
    small, summary = prune_one_shot(encoder, waves, 0.3)
    assert summary["exact"] == pytest.approx(0.3, abs=0.03)
    plain = slim(
        encoder,
        {
            name: torch.zeros(site.size).index_fill(0, torch.tensor(small.kept[name]).long(), 1.0)
            for name, site in encoder.plan().sites.items()
            if name in small.kept
        },
    ).eval()

    # Once more, with positions that are gone already
    masks = {n: torch.arange(x.size) % 3 > 0 for n, x in plain.plan().sites.items()}
    kinds = {name: site.kind for name, site in plain.plan().sites.items()}
    gone = slim(encoder, {n: m.float() for n, m in masks.items() if kinds[n] == "pos_conv"})
    again, _ = prune_one_shot(gone, waves[:2], 0.1)
    assert again.num_parameters() < gone.num_parameters()

    @torch.no_grad()
    def error(model):
        return sum(
            float((model(w[None]).last_hidden_state - encoder(w[None]).last_hidden_state).norm())
            for w in waves
        )

    assert error(small) < error(plain)
