import pytest
import torch

from espnet_prune.structured.distill import LOSSES, DistillationLoss


def distillation_loss(student, teacher, layers, weights, frames):
    """Total and parts after a student has shown all its states."""
    loss = DistillationLoss({n: teacher[n] for n in layers}, weights, frames)
    for number, state in enumerate(student):
        loss(number, state)
    assert not loss.teacher  # no state of the teacher is held any longer
    return loss.total, loss.parts


def all_of(states):
    return torch.ones(states.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("name", LOSSES)
def test_zero_where_equal_and_scale_of_one_for_the_mean(name):
    teacher = torch.randn(3, 50, 8) * 100
    zero = LOSSES[name](teacher, teacher, all_of(teacher))
    assert zero.tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    if name != "cosine":  # the constant mean explains nothing
        mean = teacher.mean(1, keepdim=True).expand_as(teacher)
        one = LOSSES[name](mean, teacher, all_of(teacher))
        assert one.tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_by_hand():
    student = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    teacher = torch.tensor([[[0.0, 1.0], [2.0, 2.0]]])
    valid = all_of(teacher)
    assert LOSSES["cosine"](student, teacher, valid).item() == pytest.approx(0.5)
    # mean frame (1, 1.5); differences (1, -1), (-1, -1) against (-1, -.5), (1, .5)
    assert LOSSES["l1"](student, teacher, valid).item() == pytest.approx(4 / 3)
    assert LOSSES["l2"](student, teacher, valid).item() == pytest.approx(4 / 2.5)


def test_a_single_frame_has_a_finite_loss():
    teacher = torch.randn(1, 1, 8)
    for name, loss in LOSSES.items():
        assert torch.isfinite(loss(teacher + 0.1, teacher, all_of(teacher))).all(), name


def test_a_batch_is_its_utterances_weighted_by_frames():
    torch.manual_seed(0)
    teacher, student = torch.randn(3, 6, 4), torch.randn(3, 6, 4)
    lengths = torch.tensor([6, 2, 3])
    frames = torch.arange(6)[None] < lengths[:, None]
    weights = {name: 1.0 for name in LOSSES}
    whole, _ = distillation_loss([student], [teacher], [0], weights, frames)
    apart = [
        distillation_loss([student[u : u + 1, :n]], [teacher[u : u + 1, :n]], [0], weights, f)[0]
        for u, n in enumerate(lengths.tolist())
        for f in (torch.ones(1, n, dtype=torch.bool),)
    ]
    mean = sum(float(loss) * n for loss, n in zip(apart, lengths.tolist(), strict=True)) / 11
    assert whole.item() == pytest.approx(mean, rel=1e-5)


def test_padding_and_layers_left_out_do_not_count():
    torch.manual_seed(0)
    teacher = [torch.randn(2, 5, 4) for _ in range(3)]
    student = [t + 0.1 * torch.randn_like(t) for t in teacher]
    frames = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    weights = {"l2": 2.0, "l1": 0.5}
    loss, parts = distillation_loss(student, teacher, [0, 2], weights, frames)
    student[1] += 7
    for state in student:
        state[1, 2:] += 100
    again, _ = distillation_loss(student, teacher, [0, 2], weights, frames)
    assert torch.equal(loss, again)
    wanted = 2 * parts["distill_l2"] + 0.5 * parts["distill_l1"]
    assert loss.item() == pytest.approx(wanted.item())


def test_gradients_are_those_of_the_plain_sum():
    torch.manual_seed(0)
    teacher = [torch.randn(2, 5, 4) for _ in range(3)]
    frames = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    weights = {"l1": 0.5, "l2": 2.0, "cosine": 1.5}
    # states that depend on each other, as those of layers do
    first = torch.randn(2, 5, 4, requires_grad=True)
    student = [first, first * 2 + 1, (first * first).tanh()]
    loss, _ = distillation_loss(student, teacher, [0, 2], weights, frames)
    (found,) = torch.autograd.grad(3.0 * loss, first, retain_graph=True)
    share = torch.tensor([5 / 7, 2 / 7])
    plain = sum(
        weight * (LOSSES[name](student[n], teacher[n], frames) * share).sum() / 2
        for name, weight in weights.items()
        for n in (0, 2)
    )
    (wanted,) = torch.autograd.grad(3.0 * plain, first)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-7)


def test_one_tensor_of_the_size_of_the_state_is_kept_for_the_backward_pass():
    state = torch.randn(2, 5, 4, requires_grad=True)
    loss = DistillationLoss({0: torch.randn(2, 5, 4)}, dict.fromkeys(LOSSES, 1.0), all_of(state))
    loss(0, state)
    nodes, kept = [loss.total.grad_fn], 0
    for node in nodes:
        nodes += [after for after, _ in node.next_functions if after is not None]
        for name in dir(node):
            if name == "saved_tensors":
                kept += sum(tensor.numel() for tensor in node.saved_tensors)
            elif name.startswith("_saved_") and isinstance(getattr(node, name), torch.Tensor):
                kept += getattr(node, name).numel()
    assert len(nodes) > 2 and kept == state.numel()
