"""Gates and distillation of ESPnet's own encoders."""

import pytest
import torch

from espnet_prune.plugin.output_distillation import OutputDistillation, prune_by_output
from espnet_prune.structured.prune_and_distil import gates_for
from test.espnet_prune.espnet_encoders import INPUT_SIZE, batch, prunable

FEATURES = [
    torch.randn(40 + 8 * n, INPUT_SIZE, generator=torch.Generator().manual_seed(n))
    for n in range(4)
]


def loss_of(teacher, student) -> float:
    """Of all features, without gates."""
    model = OutputDistillation(teacher, student).eval()
    losses = [model(x[None], torch.tensor([len(x)]))[1]["distill"] for x in FEATURES]
    return float(sum(losses)) / len(losses)


def test_the_loss_is_the_distance_of_outputs():
    encoder = prunable("conformer")
    assert loss_of(encoder, prunable("conformer")) < 1e-6
    other = prunable("conformer")
    with torch.no_grad():
        other.backbone.after_norm.bias.add_(1.0)
    features, lengths = batch()
    loss, stats, frames = OutputDistillation(encoder, other)(features, lengths)
    wanted, found = encoder(features, lengths), other(features, lengths)
    total, count = 0.0, 0
    for b, length in enumerate(wanted.lengths.tolist()):
        a, c = wanted.last_hidden_state[b, :length], found.last_hidden_state[b, :length]
        l2 = (a - c).square().sum() / (a - a.mean(0)).square().sum()
        cosine = 1 - torch.nn.functional.cosine_similarity(a, c, dim=-1).mean()
        total, count = total + length * float(l2 + cosine), count + length
    assert float(loss) == pytest.approx(total / count, rel=1e-4)
    assert int(frames) == count and float(stats["distill"]) == pytest.approx(float(loss))


@pytest.mark.parametrize("layout", ["conformer", "e_branchformer"])
def test_gates_come_to_the_target_and_norms_keep_their_statistics(layout):
    encoder = prunable(layout)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    options = {"cost": "parameters", "updates": 40, "seed": 0, "layout": "free"}
    small, summary = prune_by_output(
        encoder, FEATURES, 0.4, method="l0", distill_updates=0, **options
    )
    assert summary["exact"] == pytest.approx(0.4, abs=0.01)
    assert all(torch.equal(before[name], v) for name, v in encoder.state_dict().items())
    for name, value in small.backbone.named_buffers():
        if "running_mean" in name:  # channels of the middle may have gone
            dense = encoder.backbone.get_buffer(name).tolist()
            assert set(value.tolist()) <= set(dense)
    again, _ = prune_by_output(encoder, FEATURES, 0.4, method="l0", distill_updates=0, **options)
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in small.state_dict().items())


@pytest.mark.parametrize("method", ["one_shot", "l0"])
def test_distillation_brings_the_output_back(method):
    encoder = prunable("transformer")
    options = {"cost": "parameters", "updates": 20, "seed": 0, "layout": "free", "method": method}
    small, _ = prune_by_output(encoder, FEATURES, 0.4, distill_updates=0, **options)
    near, summary = prune_by_output(encoder, FEATURES, 0.4, distill_updates=60, **options)
    assert summary["distill_updates"] == 60
    assert loss_of(encoder, near) < 0.9 * loss_of(encoder, small)


def test_the_sparsity_that_is_asked_for_is_in_the_loss():
    encoder = prunable("transformer")
    model = OutputDistillation(encoder, prunable("transformer"), gates_for(0.5, "macs", 10, "free"))
    with torch.no_grad():
        model.lagrangian.lambda1.fill_(2.0)
        model.lagrangian.lambda2.fill_(3.0)
    model.updates = 10_000  # the ramp is over
    loss, stats, _ = model.eval()(*batch())
    gap = float(model.gated.expected_sparsity()) - 0.5
    wanted = float(stats["distill"]) + 2.0 * gap + 3.0 * gap**2
    assert float(loss) == pytest.approx(wanted, rel=1e-4)
    with pytest.raises(ValueError, match="cannot be reached"):
        prune_by_output(encoder, FEATURES, 0.99, "parameters", "l0", 10, 0, 0, "free")
