import pytest
import torch

from espnet_prune.distill import LOSSES, distillation_loss


@pytest.mark.parametrize("name", LOSSES)
def test_zero_where_equal_and_scale_of_one_for_the_mean(name):
    teacher = torch.randn(50, 8) * 100
    assert LOSSES[name](teacher, teacher).item() == pytest.approx(0, abs=1e-5)
    if name != "cosine":  # the constant mean explains nothing
        mean = teacher.mean(0).expand_as(teacher)
        assert LOSSES[name](mean, teacher).item() == pytest.approx(1, abs=1e-5)


def test_cosine_by_hand():
    student, teacher = (
        torch.tensor([[1.0, 0.0], [1.0, 1.0]]),
        torch.tensor([[0.0, 1.0], [2.0, 2.0]]),
    )
    assert LOSSES["cosine"](student, teacher).item() == pytest.approx(0.5)


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
