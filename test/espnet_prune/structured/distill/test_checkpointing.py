import pytest
import torch
from torch.nn.functional import layer_norm

from espnet_prune.structured import load_encoder
from espnet_prune.structured.distill import DistillModel, PruningConf
from espnet_prune.structured.distill.checkpointing import checkpointed
from test.espnet_prune.tiny import LAYOUTS, batch, saved


def step(directory, checkpointing, pruning, precision=None):
    """Loss, gradients by name, numbers of elements kept for the backward pass."""
    model = DistillModel(
        load_encoder(directory),
        load_encoder(directory),
        PruningConf(target=0.5, init=1.0) if pruning else None,
        dropout=0.3,
        activation_checkpointing=checkpointing,
    ).train()
    weights = {id(p) for p in model.parameters()}
    kept = []
    torch.manual_seed(3)

    def pack(tensor):
        if id(tensor) not in weights:
            kept.append(tensor.numel())
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", precision, enabled=precision is not None),
    ):
        loss = model(*batch())[0]
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return loss, gradients, sum(kept)


@pytest.mark.parametrize("pruning", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_losses_and_gradients_are_the_same_with_less_kept(layout, pruning, tmp_path):
    directory = saved(layout, tmp_path)
    plain, wanted, much = step(directory, False, pruning)
    loss, found, little = step(directory, True, pruning)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    for name, gradient in wanted.items():
        assert (gradient is None) == (found[name] is None), name
        if gradient is not None:
            difference = (found[name] - gradient).abs().max()
            assert difference <= 1e-6 * max(1.0, float(gradient.abs().max())), name
    assert little < 0.7 * much


def test_in_low_precision(tmp_path):
    directory = saved("wavlm-base", tmp_path)
    plain, wanted, _ = step(directory, False, True, torch.bfloat16)
    loss, found, _ = step(directory, True, True, torch.bfloat16)
    assert loss.item() == plain.item()
    assert all(g is None or torch.allclose(found[n], g, atol=1e-6) for n, g in wanted.items())


def test_modules_are_as_before_afterwards(tmp_path):
    encoder = load_encoder(saved("wavlm-base", tmp_path)).train()
    layers = encoder.backbone.encoder.layers
    with pytest.raises(KeyError), checkpointed(layers):
        assert "forward" in vars(layers[0])
        raise KeyError
    assert not any("forward" in vars(layer) for layer in layers)


def test_weights_and_gates_of_the_forward_pass_are_those_of_the_second_one():
    """By hand: a module whose weight and gate are exchanged before the backward pass."""

    class Scaled(torch.nn.LayerNorm):
        gate = None

        def forward(self, x):
            return layer_norm(x, (3,), self.weight) * self.gate

    module = Scaled(3, bias=False)
    x = torch.tensor([[1.0, 2.0, 6.0]], requires_grad=True)
    weight = torch.tensor([2.0, 3.0, 4.0], requires_grad=True)
    gate = torch.tensor([0.5, 1.0, 0.0], requires_grad=True)
    with checkpointed([module]):
        module.gate = gate
        y = torch.func.functional_call(module, {"weight": weight}, (x,))
    module.gate = None
    y.sum().backward()
    normed = (x - 3).detach() / torch.tensor(14 / 3 + 1e-5).sqrt()  # variance (4 + 1 + 9) / 3
    assert torch.allclose(weight.grad, (normed * gate).detach()[0], atol=1e-6)
    assert torch.allclose(gate.grad, (normed * weight).detach()[0], atol=1e-6)
    assert module.weight.grad is None and module.gate is None
